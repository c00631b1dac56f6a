//! Backups of a real cluster, compared with what `tar`, `diff`, `pg_verifybackup` and the server itself say.

use std::collections::BTreeMap;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use pitr::error::Kind;
use pitr::store::{CatalogueEntry, ExtractOptions, Extracted, Form, Label, Source, catalogue, extract, verify};
use pitr::sys::dir::Dir;

pub const BIN: &str = "/usr/lib/postgresql/15/bin";

/// A scratch cluster; stopped and removed when dropped.
pub struct Cluster {
    held: tempfile::TempDir,
}

impl Cluster {
    pub fn start() -> Cluster {
        let held = tempfile::Builder::new().prefix("pitr-store-").tempdir_in("/var/tmp").unwrap();
        std::fs::set_permissions(held.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        if nix::unistd::geteuid().is_root() {
            run(Command::new("chown").arg("postgres:").arg(held.path()));
        }
        let cluster = Cluster { held };
        cluster.shell("mkdir main backups space");
        cluster.shell(&format!("{BIN}/initdb -D main -A trust -U postgres --no-sync --data-checksums"));
        cluster.shell("echo \"listen_addresses=''\nunix_socket_directories='$PWD'\nfsync=off\nmax_wal_size=1GB\" >> main/postgresql.conf");
        cluster.shell(&format!("{BIN}/pg_ctl -D main -w -l log start"));
        cluster
    }

    pub fn path(&self, rel: &str) -> PathBuf {
        self.held.path().join(rel)
    }

    /// A script as the owner, in the scratch directory.
    pub fn shell(&self, script: &str) -> Output {
        run(&mut self.command(script))
    }

    fn command(&self, script: &str) -> Command {
        let mut command = if nix::unistd::geteuid().is_root() {
            let mut command = Command::new("setpriv");
            command.args(["--reuid", "postgres", "--regid", "postgres", "--init-groups", "sh", "-ec", script]);
            command
        } else {
            let mut command = Command::new("sh");
            command.args(["-ec", script]);
            command
        };
        command.current_dir(self.held.path()).env("PGHOST", self.held.path()).env("PGUSER", "postgres").env("PGDATABASE", "postgres");
        command
    }

    pub fn extract(&self, source: &Source, name: &str) -> pitr::error::Result<Extracted> {
        self.shell(&format!("mkdir {name} {name}-wal {name}-space"));
        let options = ExtractOptions {
            group_access: false,
            wal_into: Some(self.path(&format!("{name}-wal"))),
            tablespaces: std::fs::read_dir(self.path("main/pg_tblspc"))
                .unwrap()
                .map(|link| (link.unwrap().file_name().to_str().unwrap().parse().unwrap(), self.path(&format!("{name}-space"))))
                .collect::<BTreeMap<_, _>>(),
        };
        extract(source, &Dir::open(self.path(name)).unwrap(), &options, &mut |_| true)
    }

    pub fn entry(&self, name: &str) -> CatalogueEntry {
        let found = catalogue(&[self.path("backups")]).unwrap();
        found.into_iter().find(|e| e.name == name).unwrap()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Stopped already where the test came that far.
        let _ = self.command(&format!("for d in main started; do {BIN}/pg_ctl -D $d -m immediate stop || true; done")).output();
    }
}

pub fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?}\n{}\n{}", text(&output.stdout), text(&output.stderr));
    output
}

#[test]
fn real_backups_are_extracted_as_postgresql_would() {
    let cluster = Cluster::start();
    cluster.shell("psql -qc 'CREATE TABLE t AS SELECT generate_series(1, 20000) AS n' -c 'CREATE UNLOGGED TABLE u (n int)'");
    one_stream_from_the_server_starts(&cluster);
    a_copy_made_between_start_and_stop_has_its_label(&cluster);

    cluster.shell(
        "psql -qc \"CREATE TABLESPACE s LOCATION '$PWD/space'\" -c 'CREATE TABLE ts TABLESPACE s AS SELECT generate_series(1, 5000) AS n'",
    );
    cluster.shell(&format!("{BIN}/pg_basebackup -Ft -c fast -D backups/plain"));
    cluster.shell(&format!("{BIN}/pg_basebackup -Ft -z -c fast --manifest-checksums=SHA256 -D backups/packed"));
    for name in ["plain", "packed"] {
        a_directory_of_tars_is_what_tar_and_pg_verifybackup_say(&cluster, name);
    }
    damage_is_found(&cluster);

    cluster.shell(&format!("{BIN}/pg_ctl -D main -m fast -w stop"));
    a_cold_copy_needs_its_tablespaces(&cluster);
}

fn one_stream_from_the_server_starts(cluster: &Cluster) {
    cluster.shell(&format!("{BIN}/pg_basebackup -Ft -X fetch -c fast -D - | gzip -1 > backups/one.tar.gz"));
    let entry = cluster.entry("one.tar.gz");
    assert!(entry.is_usable() && matches!(&entry.source.form, Form::Tarball { from_server: true, .. }), "{entry:?}");
    let extracted = cluster.extract(&entry.source, "started").unwrap();
    assert!(extracted.verified && !extracted.wal.is_empty(), "{extracted:?}");

    let root = if nix::unistd::geteuid().is_root() { "chown -R postgres: started started-wal" } else { "true" };
    run(Command::new("sh").arg("-ec").arg(root).current_dir(cluster.path("")));
    cluster.shell("cp started-wal/* started/pg_wal/; mkdir other");
    cluster.shell(&format!("{BIN}/pg_ctl -D started -w -l log2 -o \"-c unix_socket_directories=$PWD/other\" start"));
    let rows = cluster.shell("PGHOST=$PWD/other psql -Atc 'SELECT count(*) FROM t'");
    assert_eq!(rows.stdout, b"20000\n");
    cluster.shell(&format!("{BIN}/pg_ctl -D started -m fast -w stop"));
}

fn a_copy_made_between_start_and_stop_has_its_label(cluster: &Cluster) {
    // tar ends with 1 where a file changed while it was read, which is what happens here.
    cluster.shell(
        "{ echo \"SELECT pg_backup_start('cron', true);\"; echo '\\! tar cf backups/base-20260426.tar main || test $? = 1'; \
         echo 'SELECT labelfile FROM pg_backup_stop(false);'; } | psql -qAt | sed -n '/^START WAL/,$p' | sed '/^$/d' > backup_label; \
         tar rf backups/base-20260426.tar backup_label; gzip -1 backups/base-20260426.tar",
    );
    let entry = cluster.entry("base-20260426.tar.gz");
    assert!(entry.is_usable() && entry.major == Some(15), "{entry:?}");
    let extracted = cluster.extract(&entry.source, "cron").unwrap();
    assert_eq!(extracted.label.as_ref().and_then(|l| l.label.as_deref()), Some("cron"));
    assert!(!extracted.verified && extracted.wal.is_empty());
    assert!(extracted.dropped.iter().any(|d| d == "postmaster.pid") && !cluster.path("cron/postmaster.pid").exists());
    cluster.shell("mkdir cron-ref; tar xzf backups/base-20260426.tar.gz -C cron-ref; mv cron-ref/backup_label cron-ref/main/");
    cluster.shell(
        "cd cron-ref/main; rm -rf postmaster.* pg_wal/* pg_notify/* pg_subtrans/* pg_stat_tmp/* pg_dynshmem/* base/pgsql_tmp; mkdir pg_wal/archive_status",
    );
    cluster.shell("cd cron-ref/main; find . -name 'pg_internal.init*' -delete");
    run(Command::new("diff").args(["-r", "cron-ref/main", "cron"]).current_dir(cluster.path("")));
}

fn a_directory_of_tars_is_what_tar_and_pg_verifybackup_say(cluster: &Cluster, name: &str) {
    let entry = cluster.entry(name);
    assert!(entry.is_usable() && entry.has_manifest && matches!(entry.label, Label::Found(_)), "{entry:?}");
    assert_eq!((entry.tablespaces.len(), entry.tablespaces_known), (1, true));
    let target = format!("{name}-out");
    let extracted = cluster.extract(&entry.source, &target).unwrap();
    assert!(extracted.verified && extracted.wal.len() == 1, "{extracted:?}");
    let oid = entry.tablespaces[0].0;

    cluster.shell(&format!("mkdir {name}-ref {name}-ref-space"));
    cluster.shell(&format!("tar xf backups/{name}/base.tar* -C {name}-ref; tar xf backups/{name}/{oid}.tar* -C {name}-ref-space"));
    for (a, b) in [(format!("{name}-ref"), target.clone()), (format!("{name}-ref-space"), format!("{target}-space"))] {
        run(Command::new("diff").args(["-r", &a, &b]).current_dir(cluster.path("")));
    }
    std::os::unix::fs::symlink(cluster.path(&format!("{target}-space")), cluster.path(&target).join(format!("pg_tblspc/{oid}"))).unwrap();
    let manifest = cluster.path(&format!("backups/{name}/backup_manifest"));
    run(Command::new(format!("{BIN}/pg_verifybackup")).arg("-n").arg("-m").arg(manifest).arg(cluster.path(&target)));
}

fn damage_is_found(cluster: &Cluster) {
    for name in ["plain", "packed"] {
        let entry = cluster.entry(name);
        let Form::TarDirectory { directory, base, .. } = &entry.source.form else { panic!("{entry:?}") };
        let path = directory.join(base);
        let whole = std::fs::read(&path).unwrap();
        for part in [0.3, 0.99] {
            std::fs::write(&path, &whole[..(whole.len() as f64 * part) as usize]).unwrap();
            let error = verify(&entry.source, &mut |_| true).unwrap_err();
            assert_eq!(error.kind, Kind::Check);
            assert!(error.what.contains(base) && error.cause.unwrap().contains("at byte"), "{}", error.what);
        }
        std::fs::write(&path, &whole).unwrap();
        flip(&path, whole.len() as u64 / 2);
        let error = verify(&entry.source, &mut |_| true).unwrap_err();
        assert_eq!(error.kind, Kind::Check, "{error}");
        std::fs::write(&path, &whole).unwrap();
    }
    // The walk through a plain archive shows the truncation before anything is extracted.
    let base = cluster.path("backups/plain/base.tar");
    let length = std::fs::metadata(&base).unwrap().len();
    std::fs::File::options().write(true).open(&base).unwrap().set_len(length - 1024).unwrap();
    assert!(cluster.entry("plain").problems.iter().any(|p| p.id == "truncated"));
}

fn flip(path: &Path, at: u64) {
    let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x20], at).unwrap();
}

fn a_cold_copy_needs_its_tablespaces(cluster: &Cluster) {
    cluster.shell("tar cf backups/linked.tar -C main .; tar chf backups/whole.tar -C main .");
    let error = verify(&cluster.entry("linked.tar").source, &mut |_| true).unwrap_err();
    assert!(error.what.contains("lacks the content of tablespace"), "{error}");
    let entry = cluster.entry("whole.tar");
    assert!(entry.is_usable() && entry.label == Label::Absent && entry.control.is_some(), "{entry:?}");
    let extracted = cluster.extract(&entry.source, "cold").unwrap();
    assert_eq!(extracted.label, None);
    assert!(cluster.path("cold-space/PG_15_202209061").is_dir());
    run(Command::new("diff").args(["-r", "space", "cold-space"]).current_dir(cluster.path("")));
    run(Command::new("diff")
        .args(["-r", "-x", "pgsql_tmp", "-x", "pg_internal.init*", "main/base", "cold/base"])
        .current_dir(cluster.path("")));
}
