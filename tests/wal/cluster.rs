//! A scratch server with small segments, and the work it does.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::majors::{self, Programs};

/// A server in a temporary directory, stopped when dropped.
pub struct Cluster {
    root: tempfile::TempDir,
    programs: Programs,
}

impl Cluster {
    /// A running server; `None` where the major's programs are not there.
    pub fn create(major: u32) -> Option<Cluster> {
        let programs = majors::available(major)?;
        let root = tempfile::Builder::new().prefix("pitr-wal-").tempdir_in("/var/tmp").unwrap();
        let cluster = Cluster { root, programs };
        assert!(Command::new("chown").arg("postgres").arg(cluster.root.path()).status().unwrap().success());
        cluster.tool("initdb", &["-D", &cluster.path("data"), "-A", "trust", "-U", "postgres", "--wal-segsize=1", "-N"]);
        cluster.settings(&format!(
            "listen_addresses = ''\nunix_socket_directories = '{}'\nfsync = off\nwal_level = replica\nmax_prepared_transactions = 10\n\
             max_wal_size = 4GB\nwal_keep_size = 4GB\nautovacuum = off\nallow_in_place_tablespaces = on\n",
            cluster.root.path().display()
        ));
        cluster.start();
        Some(cluster)
    }

    /// Path of a file under the cluster's root.
    pub fn path(&self, name: &str) -> String {
        self.root.path().join(name).display().to_string()
    }

    /// What the major's `pg_waldump` prints.
    pub fn waldump(&self, first: &str, last: &str) -> String {
        let output = self.command("pg_waldump").arg("-p").arg(self.wal()).args([first, last]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Its pg_wal.
    pub fn wal(&self) -> PathBuf {
        self.root.path().join("data/pg_wal")
    }

    /// Appends to postgresql.conf.
    pub fn settings(&self, text: &str) {
        let mut file = std::fs::OpenOptions::new().append(true).open(self.path("data/postgresql.conf")).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    pub fn start(&self) {
        self.tool("pg_ctl", &["-D", &self.path("data"), "-w", "-s", "-l", &self.path("log"), "start"]);
    }

    pub fn stop(&self) {
        self.tool("pg_ctl", &["-D", &self.path("data"), "-w", "-s", "-m", "fast", "stop"]);
    }

    /// Stops, comes back as a standby of nobody, and is promoted: timeline 2.
    pub fn promote(&self) {
        self.stop();
        std::fs::write(self.path("data/standby.signal"), "").unwrap();
        self.start();
        self.tool("pg_ctl", &["-D", &self.path("data"), "-w", "-s", "promote"]);
    }

    /// Runs a script; statements after an error go on, as in a careless session.
    pub fn sql(&self, script: &str) {
        self.psql(script, "0");
    }

    /// Runs a query and returns what it prints.
    pub fn query(&self, query: &str) -> String {
        self.psql(query, "1").trim().to_owned()
    }

    fn psql(&self, script: &str, strict: &str) -> String {
        let mut command = self.command("psql");
        command.args(["-X", "-A", "-t", "-q", "-h", &self.path(""), "-U", "postgres", "-v"]).arg(format!("ON_ERROR_STOP={strict}"));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        let text = script.to_owned();
        let writer = std::thread::spawn(move || input.write_all(text.as_bytes()).unwrap());
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        assert!(output.status.success(), "psql: {script}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs one of PostgreSQL's programs.
    pub fn tool(&self, name: &str, arguments: &[&str]) {
        let output = self.command(name).args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
        assert!(output.success(), "{name} {arguments:?}");
    }

    /// pgbench of 15 talks to every server.
    fn command(&self, name: &str) -> Command {
        let of_15 = || majors::programs(15).tool(name);
        let mut command = if name == "pgbench" && !self.programs.has(name) { of_15() } else { self.programs.tool(name) };
        command.current_dir("/").env_remove("PGDATABASE").env_remove("PGHOST").env("TZ", "UTC");
        command
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if Path::new(&self.path("data/postmaster.pid")).exists() {
            let _ = self.command("pg_ctl").args(["-D", &self.path("data"), "-w", "-s", "-m", "immediate", "stop"]).status();
        }
    }
}

/// Savepoints `0..count`, each with a row; every seventh is rolled back.
pub fn savepoints(count: u32) -> String {
    let one = |i: u32| {
        let undo = if i.is_multiple_of(7) { format!("rollback to s{i};\n") } else { String::new() };
        format!("savepoint s{i};\ninsert into nested values ({i});\n{undo}")
    };
    format!("begin;\n{}commit;\n", (0..count).map(one).collect::<String>())
}

/// The tables of the workload.
pub const TABLES: &str = "
create table orders (id int primary key, note text);
create table nested (id int);
create table doubtful (id int);
create table wide (id int, body text);
alter table wide alter body set storage external;
create table parts (id int, region int) partition by list (region);
create table parts_1 partition of parts for values in (1);
create table parts_2 partition of parts for values in (2);
create unlogged table quick (id int);
create sequence numbers;
";

/// A bit of everything; `orders` ends with 1000 inserted, 210 updated and 90 deleted by commit.
pub fn workload() -> String {
    let copied: String = (2000..5000).map(|i| format!("{i}\tcopied row {i}\n")).collect();
    format!(
        "
insert into orders select i, 'order ' || i from generate_series(1, 1000) i;
update orders set note = note || '!' where id <= 200;
delete from orders where id > 910;
begin; update orders set note = 'lost'; delete from orders where id < 100; rollback;
begin; update orders set note = 'kept' where id <= 10; savepoint a; delete from orders where id <= 500; rollback to a; commit;
{nested}
create table copied (id int, note text);
copy copied from stdin;
{copied}\\.
select pg_create_restore_point('before the truncate');
insert into wide select i, (select string_agg(md5(random()::text), '') from generate_series(1, 400) where i > 0) from generate_series(1, 20) i;
begin; insert into doubtful values (1); prepare transaction 'one';
begin; insert into doubtful values (2), (3); savepoint q; insert into doubtful values (4); prepare transaction 'two';
begin; insert into doubtful values (5); prepare transaction 'three';
commit prepared 'one';
rollback prepared 'two';
insert into parts select i, 1 from generate_series(1, 50) i;
update parts set region = 2 where id <= 20;
insert into quick select generate_series(1, 100);
select count(nextval('numbers')) from generate_series(1, 500);
create index on orders (note);
cluster orders using orders_pkey;
insert into orders values (1, 'twice') on conflict (id) do nothing;
truncate copied;
begin; truncate copied; insert into copied values (1); truncate copied; commit;
create database other;
drop database other;
set allow_in_place_tablespaces = on;
create tablespace shelf location '';
create table shelved (id int) tablespace shelf;
insert into shelved values (1);
set wal_compression = on; set wal_compression = pglz; checkpoint; update wide set id = id + 1;
set wal_compression = lz4; checkpoint; update wide set id = id + 1;
set wal_compression = zstd; checkpoint; update wide set id = id + 1;
set wal_compression = off;
select pg_switch_wal();
select pg_logical_emit_message(true, 'test', repeat('a long message ', 200000));
vacuum full nested; vacuum full pg_class;
vacuum wide; analyze orders;
drop table shelved;
alter table nested add column more int;
select pg_create_restore_point('before the truncate');
select pg_switch_wal();
",
        nested = savepoints(150)
    )
}
