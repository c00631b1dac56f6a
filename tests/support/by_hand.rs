//! A point-in-time recovery as the manual tells it, with nothing but PostgreSQL: the oracle of what a recovery must
//! give.

use std::fs;
use std::path::{Path, PathBuf};

use super::cluster::{Layout, TestCluster};
use super::majors;
use super::program::{self, as_postgres, program};
use super::psql::Socket;
use super::scratch::{Scratch, make_dir};
use super::wait_until;

/// Recovers `backup` (a directory or tarball of [`TestCluster`]'s making) with WAL from `archive`, to the target that
/// `settings` give (`recovery_target_…` lines; empty: the end of `latest`), and promotes. The result is a cluster of
/// its own, without archiving, on another socket; the backup and the archive are only read.
#[track_caller]
pub fn recover_by_hand(scratch: &Scratch, name: &str, backup: &Path, archive: &Path, settings: &[&str]) -> TestCluster {
    let cluster = lay_out(scratch, name);
    extract(backup, &cluster.data);
    empty_what_a_copy_must_not_bring(&cluster.data);
    // WAL that the backup brings comes after the emptying.
    for wal in ["pg_wal.tar", "pg_wal.tar.gz"] {
        if backup.join(wal).exists() {
            untar(&backup.join(wal), &cluster.data.join("pg_wal"), 0);
        }
    }
    configure(&cluster, archive, settings);
    let started = cluster.try_start();
    assert_eq!(started.code, 0, "recovery by hand: {}\n{}", started.stderr, cluster.log_tail());
    wait_until(120, "the end of the recovery by hand", || {
        assert!(cluster.running(), "the server of the recovery by hand ended\n{}", cluster.log_tail());
        cluster.sql("postgres", "SELECT pg_is_in_recovery()") == "f"
    });
    cluster
}

fn lay_out(scratch: &Scratch, name: &str) -> TestCluster {
    let home = scratch.dir(name, "root", "root", 0o711);
    let data = make_dir(&home.join("data"), "postgres", "postgres", 0o700);
    let log = make_dir(&home.join("log"), "postgres", "postgres", 0o700);
    TestCluster {
        name: name.to_string(),
        layout: Layout::Plain,
        programs: majors::programs(15),
        conf_file: data.join("postgresql.conf"),
        socket: Socket { dir: make_dir(&home.join("sock"), "postgres", "postgres", 0o755), port: 5432 },
        log: log.join("server.log"),
        archive: None,
        backups: make_dir(&home.join("backups"), "root", "root", 0o755),
        flag: None,
        user: "postgres".to_string(),
        data,
        home,
    }
}

fn extract(backup: &Path, data: &Path) {
    if backup.is_file() {
        let lead = leading_components(backup);
        return untar(backup, data, lead);
    }
    for base in ["base.tar", "base.tar.gz"] {
        if backup.join(base).exists() {
            return untar(&backup.join(base), data, 0);
        }
    }
    program::ok(as_postgres("cp").args(["-R", "--preserve=mode,links", "--"]).arg(backup.join(".")).arg(data));
}

/// How many directories stand before `PG_VERSION` in the tarball: `./PG_VERSION` has one component to drop already.
fn leading_components(tarball: &Path) -> usize {
    let list = program::ok(program("tar").arg("-tf").arg(tarball));
    let shallowest = list.lines().filter(|line| line.ends_with("PG_VERSION")).map(|line| line.matches('/').count()).min();
    shallowest.expect("a tarball of a cluster")
}

fn untar(tarball: &Path, dir: &Path, strip: usize) {
    let mut command = as_postgres("tar");
    program::ok(command.arg("-xf").arg(tarball).arg("-C").arg(dir).arg(format!("--strip-components={strip}")));
}

fn empty_what_a_copy_must_not_bring(data: &Path) {
    for file in ["postmaster.pid", "postmaster.opts", "postgresql.auto.conf"] {
        let _ = fs::remove_file(data.join(file));
    }
    let mut remove = vec![];
    for dir in ["pg_replslot", "pg_notify", "pg_stat_tmp"] {
        remove.extend(files_of(&data.join(dir)));
    }
    // A plain backup's own WAL stays: without the archive's it is what makes the backup consistent.
    if !data.join("backup_manifest").exists() {
        remove.extend(files_of(&data.join("pg_wal")).into_iter().filter(|p| p.is_file()));
    }
    for path in remove {
        program::ok(program("rm").args(["-rf", "--"]).arg(path));
    }
}

fn files_of(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).map(|entries| entries.flatten().map(|entry| entry.path()).collect()).unwrap_or_default()
}

fn configure(cluster: &TestCluster, archive: &Path, settings: &[&str]) {
    let mut lines = vec![
        "listen_addresses = ''".to_string(),
        format!("unix_socket_directories = '{}'", cluster.socket.dir.display()),
        "max_connections = 20".to_string(),
        "shared_buffers = 16MB".to_string(),
        "archive_mode = off".to_string(),
        "autovacuum = off".to_string(),
        format!("restore_command = 'cp {}/%f %p'", archive.display()),
        "recovery_target_action = 'promote'".to_string(),
    ];
    lines.extend(settings.iter().map(|line| (*line).to_string()));
    write_as_owner(&cluster.conf_file, &(lines.join("\n") + "\n"));
    write_as_owner(&cluster.data.join("pg_hba.conf"), "local all all trust\n");
    write_as_owner(&cluster.data.join("pg_ident.conf"), "");
    write_as_owner(&cluster.data.join("recovery.signal"), "");
}

fn write_as_owner(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    super::scratch::give(path, "postgres", "postgres", 0o600);
}
