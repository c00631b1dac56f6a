//! A standby of a [`TestCluster`], and `pg_receivewal` beside one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use nix::sys::signal::Signal;

use super::cluster::{Layout, TestCluster};
use super::program::{self};
use super::psql::Socket;
use super::scratch::{Scratch, give, make_dir};
use super::{process, wait_until};

impl TestCluster {
    /// A streaming standby of this cluster, made by `pg_basebackup -R`; it serves. Its settings are this one's: what it
    /// archives goes to the same place.
    #[track_caller]
    pub fn standby(&self, scratch: &Scratch, name: &str) -> TestCluster {
        let home = scratch.dir(name, "root", "root", 0o711);
        let data = make_dir(&home.join("pg/data"), "postgres", "postgres", 0o700);
        give(&home.join("pg"), "postgres", "postgres", 0o755);
        let log = make_dir(&home.join("log"), "postgres", "postgres", 0o700);
        let mut command = self.tool("pg_basebackup");
        command.arg("-h").arg(&self.socket.dir).arg("-p").arg(self.socket.port.to_string()).args(["-U", "postgres"]);
        program::ok(command.args(["-c", "fast", "--no-sync", "-R", "-Fp", "-D"]).arg(&data));
        let standby = TestCluster {
            name: name.to_string(),
            layout: Layout::Plain,
            programs: self.programs.clone(),
            conf_file: data.join("postgresql.conf"),
            socket: Socket { dir: make_dir(&home.join("sock"), "postgres", "postgres", 0o755), port: self.socket.port },
            log: log.join("server.log"),
            archive: self.archive.clone(),
            backups: self.backups.clone(),
            flag: None,
            user: self.user.clone(),
            data,
            home,
        };
        let place = format!("unix_socket_directories = '{}'", standby.socket.dir.display());
        let conf = fs::read_to_string(&standby.conf_file).unwrap();
        fs::write(&standby.conf_file, format!("{conf}\n{place}\n")).unwrap();
        standby.start();
        standby
    }

    /// Waits until this standby has replayed everything that `primary` has written.
    #[track_caller]
    pub fn caught_up_with(&self, primary: &TestCluster) {
        let lsn = primary.sql("postgres", "SELECT pg_current_wal_flush_lsn()");
        let sql = format!("SELECT pg_last_wal_replay_lsn() >= '{lsn}'");
        wait_until(60, "the standby to catch up", || self.sql("postgres", &sql) == "t");
    }
}

/// `pg_receivewal` at work; ended by SIGKILL.
pub struct Receiver {
    child: Child,
    /// Where it writes.
    pub directory: PathBuf,
    name: String,
}

impl Receiver {
    /// Starts it on `cluster`, writing to `directory`, with more options such as `--compress=gzip`.
    pub fn start(cluster: &TestCluster, directory: &Path, options: &[&str]) -> Receiver {
        let mut command = cluster.tool("pg_receivewal");
        command.arg("-h").arg(&cluster.socket.dir).arg("-p").arg(cluster.socket.port.to_string()).args(["-U", "postgres"]);
        command.args(["--no-loop", "--synchronous"]).args(options).arg("-D").arg(directory);
        let name = directory.file_name().unwrap().to_string_lossy().into_owned();
        let child = command.env("PGAPPNAME", &name).stdout(Stdio::null()).stderr(Stdio::inherit()).spawn().unwrap();
        let counted = format!("SELECT count(*) FROM pg_stat_replication WHERE application_name = '{name}'");
        wait_until(30, "the receiver", || cluster.sql("postgres", &counted) == "1");
        Receiver { child, directory: directory.to_path_buf(), name }
    }

    /// Waits until it has flushed everything that the cluster has written.
    #[track_caller]
    pub fn caught_up_with(&self, cluster: &TestCluster) {
        let lsn = cluster.sql("postgres", "SELECT pg_current_wal_flush_lsn()");
        let sql = format!("SELECT flush_lsn >= '{lsn}' FROM pg_stat_replication WHERE application_name = '{}'", self.name);
        wait_until(60, "the receiver to catch up", || cluster.sql("postgres", &sql) == "t");
    }

    /// As a host dies.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        process::send(self.child.id().cast_signed(), Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.end();
        }
    }
}
