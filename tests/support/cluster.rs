//! A real PostgreSQL cluster (15 unless asked otherwise) in a scratch directory: made, configured, asked.
//!
//! Starting, stopping and crashing it is `server.rs`; backing it up is `backup.rs`.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::majors::{self, Programs};
use super::program::{self, Output, program};
use super::psql::{self, Session, Socket};
use super::scratch::{Scratch, give, make_dir};
use super::wait_until;

/// Where the configuration lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// `initdb` and `pg_ctl`: everything in PGDATA.
    Plain,
    /// `pg_createcluster` and `pg_ctlcluster`: configuration in `/etc/postgresql/15/<name>`.
    Debian,
}

/// Who owns the archive directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Archive {
    /// No archiving.
    Off,
    /// `root:postgres`, mode 2770: the owner of the cluster writes through its group.
    RootOwned,
    /// `postgres:postgres`, mode 0700.
    OwnerOwned,
}

/// What the cluster will be; see the methods for the defaults.
#[derive(Debug)]
pub struct Builder<'a> {
    scratch: &'a Scratch,
    name: String,
    layout: Layout,
    checksums: bool,
    segment_mib: u32,
    archive: Archive,
    switch: bool,
    root_parent: bool,
    conf: Vec<String>,
    user: String,
    initdb: Vec<String>,
    programs: Programs,
}

/// A cluster. It is stopped when dropped, and removed completely where it is Debian's.
#[derive(Debug)]
pub struct TestCluster {
    /// The name in pitr's configuration: `15-pitrt…` on the Debian layout.
    pub name: String,
    /// Where the configuration lives.
    pub layout: Layout,
    /// PostgreSQL's own programs, of the cluster's major.
    pub programs: Programs,
    /// Its bootstrap role.
    pub user: String,
    /// PGDATA.
    pub data: PathBuf,
    /// The file that the settings of the harness were added to.
    pub conf_file: PathBuf,
    /// Where it listens.
    pub socket: Socket,
    /// The server's log.
    pub log: PathBuf,
    /// The archive directory, if it archives.
    pub archive: Option<PathBuf>,
    /// A root-owned directory for backups, mode 0755.
    pub backups: PathBuf,
    /// While this file exists, archiving fails (only with [`Builder::archiver_switch`]).
    pub(super) flag: Option<PathBuf>,
    /// The cluster's part of the scratch directory.
    pub home: PathBuf,
}

impl<'a> Builder<'a> {
    /// Debian's layout instead of everything in PGDATA.
    pub fn debian(mut self) -> Self {
        self.layout = Layout::Debian;
        self
    }

    /// Another major than 15, one of [`majors::available`]; plain layout only.
    pub fn major(mut self, major: u32) -> Self {
        self.programs = majors::programs(major);
        self
    }

    /// Data checksums on or off (on).
    pub fn checksums(mut self, on: bool) -> Self {
        self.checksums = on;
        self
    }

    /// Size of a WAL segment in MiB, a power of two (1: many segments from little work).
    pub fn segment_mib(mut self, mib: u32) -> Self {
        self.segment_mib = mib;
        self
    }

    /// Who owns the archive (root).
    pub fn archive(mut self, archive: Archive) -> Self {
        self.archive = archive;
        self
    }

    /// Lets [`TestCluster::fail_archiving`] work: `archive_command` then tests for a flag file first.
    pub fn archiver_switch(mut self) -> Self {
        self.switch = true;
        self
    }

    /// PGDATA's parent belongs to root instead of `postgres`.
    pub fn root_owned_parent(mut self) -> Self {
        self.root_parent = true;
        self
    }

    /// One more line for the configuration file.
    pub fn conf(mut self, line: &str) -> Self {
        self.conf.push(line.to_string());
        self
    }

    /// The bootstrap role (`postgres`); plain layout only.
    pub fn bootstrap_role(mut self, name: &str) -> Self {
        self.user = name.to_string();
        self
    }

    /// PostgreSQL's programs that it will have.
    pub fn programs(&self) -> &Programs {
        &self.programs
    }

    /// One more option for `initdb`.
    pub fn initdb_option(mut self, option: &str) -> Self {
        self.initdb.push(option.to_string());
        self
    }

    /// An environment variable for every program of the cluster.
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.programs.environment.push((name.to_string(), value.to_string()));
        self
    }

    /// Makes the cluster and starts it.
    pub fn start(self) -> TestCluster {
        let cluster = self.create();
        cluster.start();
        cluster
    }

    /// Makes the cluster without starting it.
    pub fn create(self) -> TestCluster {
        let cluster = self.lay_out();
        match self.layout {
            Layout::Plain => self.initdb(&cluster),
            Layout::Debian => {
                assert_eq!(self.programs.major, 15, "Debian's tools know the major that is installed");
                self.pg_createcluster(&cluster);
            }
        }
        let mut conf = fs::OpenOptions::new().create(true).append(true).open(&cluster.conf_file).unwrap();
        writeln!(conf, "{}", self.settings(&cluster)).unwrap();
        give(&cluster.conf_file, "postgres", "postgres", 0o600);
        cluster
    }

    fn lay_out(&self) -> TestCluster {
        let home = self.scratch.dir(&self.name, "root", "root", 0o711);
        let parent_owner = if self.root_parent { "root" } else { "postgres" };
        let parent = make_dir(&home.join("pg"), parent_owner, parent_owner, 0o755);
        let log_dir = make_dir(&home.join("log"), "postgres", "postgres", 0o700);
        let archive = match self.archive {
            Archive::Off => None,
            Archive::RootOwned => Some(make_dir(&home.join("archive"), "root", "postgres", 0o2770)),
            Archive::OwnerOwned => Some(make_dir(&home.join("archive"), "postgres", "postgres", 0o700)),
        };
        let data = parent.join("data");
        let debian_name = unique_name();
        let (name, conf_file) = match self.layout {
            Layout::Plain => (self.name.clone(), data.join("postgresql.conf")),
            Layout::Debian => {
                let conf = PathBuf::from(format!("/etc/postgresql/15/{debian_name}/conf.d/harness.conf"));
                (format!("15-{debian_name}"), conf)
            }
        };
        TestCluster {
            name,
            layout: self.layout,
            programs: self.programs.clone(),
            conf_file,
            socket: Socket { dir: make_dir(&home.join("sock"), "postgres", "postgres", 0o755), port: free_port() },
            log: log_dir.join("server.log"),
            archive,
            backups: make_dir(&home.join("backups"), "root", "root", 0o755),
            flag: self.switch.then(|| home.join("archiving-fails")),
            user: self.user.clone(),
            data,
            home,
        }
    }

    fn initdb(&self, cluster: &TestCluster) {
        make_dir(&cluster.data, "postgres", "postgres", 0o700);
        let mut command = cluster.tool("initdb");
        command.arg("-D").arg(&cluster.data).args(["--auth=trust", "-U", &self.user]);
        program::ok(command.args(["--locale=C.UTF-8", "--encoding=UTF8"]).args(self.initdb_options()));
    }

    fn pg_createcluster(&self, cluster: &TestCluster) {
        let mut command = program("pg_createcluster");
        command.args(["15", cluster.debian_name(), "--start-conf", "manual", "--locale", "C.UTF-8", "-e", "UTF8"]);
        command.arg("-p").arg(cluster.socket.port.to_string());
        command.arg("-d").arg(&cluster.data).arg("-s").arg(&cluster.socket.dir).arg("-l").arg(&cluster.log);
        program::ok(command.arg("--").args(self.initdb_options()));
    }

    fn initdb_options(&self) -> Vec<String> {
        let mut options = vec![format!("--wal-segsize={}", self.segment_mib), "--no-sync".to_string()];
        // 18 makes them unless it is told not to, with an option that the others do not know.
        if self.checksums {
            options.push("--data-checksums".to_string());
        } else if self.programs.major >= 18 {
            options.push("--no-data-checksums".to_string());
        }
        options.extend(self.initdb.iter().cloned());
        options
    }

    fn settings(&self, cluster: &TestCluster) -> String {
        let mut lines = vec![
            "# added by the tests of pitr".to_string(),
            "listen_addresses = ''".to_string(),
            "max_connections = 20".to_string(),
            "shared_buffers = 16MB".to_string(),
            format!("max_wal_size = {}MB", 16 * self.segment_mib.max(2)),
            format!("min_wal_size = {}MB", 2 * self.segment_mib.max(2)),
            // Transactions of its own would blur the exact counts that tests assert.
            "autovacuum = off".to_string(),
            "wal_level = replica".to_string(),
        ];
        if self.layout == Layout::Plain {
            lines.push(format!("port = {}", cluster.socket.port));
            lines.push(format!("unix_socket_directories = '{}'", cluster.socket.dir.display()));
        }
        if let Some(archive) = &cluster.archive {
            let archive = archive.display();
            let switch = cluster.flag.as_ref().map(|flag| format!("test ! -e {} && ", flag.display())).unwrap_or_default();
            lines.push("archive_mode = on".to_string());
            lines.push(format!("archive_command = '{switch}test ! -f {archive}/%f && cp %p {archive}/%f'"));
        }
        lines.extend(self.conf.iter().cloned());
        lines.join("\n")
    }
}

impl TestCluster {
    /// A cluster `name` to be made in `scratch`: plain layout, checksums, segments of 1 MiB, a root-owned archive.
    pub fn builder<'a>(scratch: &'a Scratch, name: &str) -> Builder<'a> {
        Builder {
            scratch,
            name: name.to_string(),
            layout: Layout::Plain,
            checksums: true,
            segment_mib: 1,
            archive: Archive::RootOwned,
            switch: false,
            root_parent: false,
            conf: Vec::new(),
            user: "postgres".to_string(),
            initdb: Vec::new(),
            programs: majors::programs(15),
        }
    }

    /// The name that Debian's tools know the cluster by.
    pub fn debian_name(&self) -> &str {
        self.name.trim_start_matches("15-")
    }

    /// PGDATA's parent, where staging and aside will stand.
    pub fn parent(&self) -> &Path {
        self.data.parent().unwrap()
    }

    /// Runs SQL in `database` as the superuser and returns what psql printed (unaligned, tuples only).
    #[track_caller]
    pub fn sql(&self, database: &str, text: &str) -> String {
        psql::sql(self.psql(database), text)
    }

    /// Like [`TestCluster::sql`], whatever happens.
    pub fn try_sql(&self, database: &str, text: &str) -> Output {
        psql::try_sql(self.psql(database), text)
    }

    /// The rows of a query, columns split.
    #[track_caller]
    pub fn psql_rows(&self, database: &str, text: &str) -> Vec<Vec<String>> {
        psql::rows(self.psql(database), text)
    }

    /// Runs a script, each statement a transaction of its own.
    #[track_caller]
    pub fn script(&self, database: &str, text: &str) -> String {
        psql::script(self.psql(database), text)
    }

    /// A session that stays open.
    pub fn session(&self, database: &str) -> Session {
        Session::open(self.psql(database))
    }

    fn psql(&self, database: &str) -> std::process::Command {
        self.socket.psql(&majors::programs(15).bin, database, &self.user)
    }

    /// One of PostgreSQL's programs as the operating system user `postgres`: the cluster's own, or 15's where the
    /// major's source has none.
    pub fn tool(&self, name: &str) -> std::process::Command {
        self.programs.tool(name)
    }

    /// Where the next WAL record will be inserted.
    pub fn wal_lsn(&self) -> String {
        self.sql("postgres", "SELECT pg_current_wal_insert_lsn()")
    }

    /// The server's clock: `2026-11-21 21:05:19.998811+00`.
    pub fn now(&self) -> String {
        self.sql("postgres", "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00'")
    }

    /// Switches to a new segment and waits until everything before it is in the archive.
    #[track_caller]
    pub fn archive_caught_up(&self) {
        let archive = self.archive.as_ref().expect("the cluster archives");
        let last = self.switch_wal();
        let mut round = 0;
        wait_until(60, &format!("{last} in the archive"), || {
            round += 1;
            // An archiver that failed three times sleeps for a minute unless a new segment wakes it.
            if round % 100 == 0 {
                self.switch_wal();
            }
            archive.join(&last).exists() && self.ready_marks() == 0
        });
    }

    /// Ends the current segment and returns its name.
    pub fn switch_wal(&self) -> String {
        self.sql(
            "postgres",
            "SELECT pg_walfile_name(pg_switch_wal()) FROM (SELECT pg_logical_emit_message(false, 'pitr-test', '')) AS record",
        )
    }

    fn ready_marks(&self) -> usize {
        let marks = fs::read_dir(self.data.join("pg_wal/archive_status")).unwrap();
        marks.flatten().filter(|mark| mark.path().extension().is_some_and(|e| e == "ready")).count()
    }

    /// Lets the archiver fail from now on, or work again.
    #[track_caller]
    pub fn fail_archiving(&self, fail: bool) {
        let flag = self.flag.as_ref().expect("built with archiver_switch()");
        if fail {
            fs::write(flag, "").unwrap();
        } else if flag.exists() {
            fs::remove_file(flag).unwrap();
        }
    }

    /// Whether a `pg_backup_stop` that waits for the archive would return.
    pub(super) fn archiving_works(&self) -> bool {
        self.archive.is_some() && !self.flag.as_ref().is_some_and(|flag| flag.exists())
    }
}

/// A name that `pg_createcluster` accepts and no other test uses.
fn unique_name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("pitrt{}x{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// A port nobody listens on; only the socket's name uses it.
fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}
