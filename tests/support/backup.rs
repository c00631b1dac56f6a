//! Base backups as people make them: `pg_basebackup` in its formats, and the tarballs of cron jobs.

use std::fs;
use std::path::{Path, PathBuf};

use super::cluster::TestCluster;
use super::program::{self, program};
use super::scratch::{give, make_dir};

impl TestCluster {
    /// `pg_basebackup -Ft` into `backups/<name>`: `base.tar[.gz]`, `pg_wal.tar[.gz]` and `backup_manifest`.
    #[track_caller]
    pub fn basebackup_tar(&self, name: &str, gzip: bool) -> PathBuf {
        let options: &[&str] = if gzip { &["-Ft", "-z"] } else { &["-Ft"] };
        self.pg_basebackup(name, options)
    }

    /// `pg_basebackup -Fp` into `backups/<name>`.
    #[track_caller]
    pub fn basebackup_plain(&self, name: &str) -> PathBuf {
        self.pg_basebackup(name, &["-Fp"])
    }

    /// `pg_basebackup` with more options, such as `-X none`.
    #[track_caller]
    pub fn pg_basebackup(&self, name: &str, options: &[&str]) -> PathBuf {
        let dir = make_dir(&self.backups.join(name), "postgres", "postgres", 0o700);
        let mut command = self.tool("pg_basebackup");
        command.arg("-h").arg(&self.socket.dir).arg("-p").arg(self.socket.port.to_string());
        program::ok(command.args(["-U", &self.user, "-c", "fast", "--no-sync"]).args(options).arg("-D").arg(&dir));
        dir
    }

    /// A tarball of the running cluster as a cron job makes it: `pg_backup_start`, `tar` of all of PGDATA,
    /// `pg_backup_stop`, the label added to the tar. Everything is in it that should not be: `postmaster.pid`,
    /// replication slots, the WAL of that moment; there is no manifest. Entries are `./base/…`, or `<lead>/base/…` with a
    /// leading directory. Compressed where the name says so (`.gz`, `.tgz`).
    #[track_caller]
    pub fn cron_tarball(&self, file: &str, lead: Option<&str>) -> PathBuf {
        self.cron_tarball_with(file, lead, &[])
    }

    /// The same with more options for tar, such as `-h`, which packs what links lead to.
    #[track_caller]
    pub fn cron_tarball_with(&self, file: &str, lead: Option<&str>, options: &[&str]) -> PathBuf {
        self.cron_tarball_during(file, lead, options, || {})
    }

    /// The same with work that is done while it is taken.
    #[track_caller]
    pub fn cron_tarball_during(&self, file: &str, lead: Option<&str>, options: &[&str], work: impl FnOnce()) -> PathBuf {
        let wait = self.archiving_works();
        let mut session = self.session("postgres");
        let (start, stop) = match self.programs.major {
            ..=14 => ("pg_start_backup('cron', true, false)".to_string(), format!("pg_stop_backup(false, {wait})")),
            _ => ("pg_backup_start('cron', true)".to_string(), format!("pg_backup_stop({wait})")),
        };
        session.sql("SET client_min_messages = warning");
        session.sql(&format!("SELECT {start}"));
        let tar = self.tar(&self.data, file, lead, options);
        work();
        let label = session.sql(&format!("SELECT labelfile FROM {stop}"));
        session.close();
        self.add_to_tar(&tar, "backup_label", format!("{}\n", label.trim_end()).as_bytes(), lead);
        compress(&tar, &self.backups.join(file))
    }

    /// A tarball of the running cluster without label: torn, of no use, and nothing in it says so.
    #[track_caller]
    pub fn live_tarball(&self, file: &str) -> PathBuf {
        compress(&self.tar_data(file, None), &self.backups.join(file))
    }

    /// A tarball of the stopped cluster.
    #[track_caller]
    pub fn cold_tarball(&self, file: &str, lead: Option<&str>) -> PathBuf {
        assert!(!self.running(), "a cold tarball is of a stopped cluster");
        compress(&self.tar_data(file, lead), &self.backups.join(file))
    }

    /// `pg_basebackup -Fp` packed by a script and removed: a tarball with label and manifest.
    #[track_caller]
    pub fn packed_basebackup(&self, file: &str, lead: Option<&str>) -> PathBuf {
        let dir = self.basebackup_plain(&format!("{file}.unpacked"));
        let tar = self.tar(&dir, file, lead, &[]);
        fs::remove_dir_all(dir).unwrap();
        compress(&tar, &self.backups.join(file))
    }

    fn tar_data(&self, file: &str, lead: Option<&str>) -> PathBuf {
        self.tar(&self.data, file, lead, &[])
    }

    fn tar(&self, dir: &Path, file: &str, lead: Option<&str>, options: &[&str]) -> PathBuf {
        let tar = self.backups.join(format!("{file}.part"));
        let mut command = program("tar");
        command.args(options).arg("-cf").arg(&tar).arg("-C").arg(dir);
        if let Some(lead) = lead {
            // `r` renames entries only, never the target of a link.
            command.arg(format!("--transform=flags=r;s,^\\.,{lead},"));
        }
        let said = program::output(command.arg("."));
        // 1: a file changed or vanished while it was read, which is normal for a live cluster.
        assert!(said.code <= 1, "tar: {}", said.stderr);
        tar
    }

    /// Adds one file of the owner to a tarball.
    pub fn add_to_tar(&self, tar: &Path, name: &str, content: &[u8], lead: Option<&str>) {
        let dir = tempfile::Builder::new().prefix("label-").tempdir_in(&self.home).unwrap();
        let inner = dir.path().join(lead.unwrap_or("."));
        fs::create_dir_all(&inner).unwrap();
        fs::write(inner.join(name), content).unwrap();
        give(&inner.join(name), "postgres", "postgres", 0o600);
        let entry = format!("{}/{name}", lead.unwrap_or("."));
        program::ok(program("tar").arg("-rf").arg(tar).arg("-C").arg(dir.path()).arg(entry));
    }
}

/// Compresses `tar` if `file`'s name wants it, and puts it there.
fn compress(tar: &Path, file: &Path) -> PathBuf {
    let packed = file.extension().is_some_and(|e| e == "gz" || e == "tgz");
    if packed {
        program::ok(program("gzip").args(["-1", "--suffix", ".z", "--"]).arg(tar));
        fs::rename(format!("{}.z", tar.display()), file).unwrap();
    } else {
        fs::rename(tar, file).unwrap();
    }
    file.to_path_buf()
}
