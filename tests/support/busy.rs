//! A writer that never rests: one small transaction after the other, each known by its id.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::thread::JoinHandle;

use super::cluster::TestCluster;
use super::program::{self, program};
use super::psql;
use super::wait_until;

/// The writer.
pub struct Busy<'a> {
    cluster: &'a TestCluster,
    database: String,
    thread: Option<JoinHandle<String>>,
}

const TABLES: &str = "
CREATE TABLE busy (xid text NOT NULL DEFAULT pg_current_xact_id()::text, at timestamptz NOT NULL DEFAULT clock_timestamp());
CREATE TABLE busy_end (at timestamptz)";

const LOOP: &str = "
DO $$ BEGIN
  LOOP
    INSERT INTO busy DEFAULT VALUES;
    COMMIT;
    EXIT WHEN EXISTS (SELECT FROM busy_end);
    PERFORM pg_sleep(0.002);
  END LOOP;
END $$";

impl<'a> Busy<'a> {
    /// Makes its tables.
    pub fn prepare(cluster: &TestCluster, database: &str) {
        cluster.sql(database, TABLES);
    }

    /// Begins to write.
    pub fn begin(cluster: &'a TestCluster, database: &str) -> Busy<'a> {
        cluster.sql(database, "DELETE FROM busy_end");
        let mut command = cluster.socket.psql(&super::majors::programs(15).bin, database, "postgres");
        let thread = std::thread::spawn(move || program::ok(command.args(["-c", LOOP])));
        Busy { cluster, database: database.to_string(), thread: Some(thread) }
    }

    /// Waits until it has written some more.
    pub fn some_more(&self) {
        let count = || self.cluster.sql(&self.database, "SELECT count(*) FROM busy").parse::<u64>().unwrap();
        let before = count();
        wait_until(30, "some more rows of the busy writer", || count() > before + 5);
    }

    /// Lets it end.
    pub fn end(mut self) {
        self.cluster.sql(&self.database, "INSERT INTO busy_end VALUES (now())");
        self.thread.take().unwrap().join().unwrap();
    }

    /// The transactions that it has committed, as the cluster has them.
    pub fn rows(cluster: &TestCluster, database: &str) -> BTreeSet<String> {
        cluster.psql_rows(database, "SELECT xid FROM busy").into_iter().map(|row| row[0].clone()).collect()
    }

    /// Those that `pg_waldump` says to have committed before `lsn`.
    pub fn committed_before(cluster: &TestCluster, database: &str, lsn: &str) -> BTreeSet<String> {
        let commits = commits(cluster);
        let all = Busy::rows(cluster, database);
        let position = number(lsn);
        all.into_iter().filter(|xid| commits.get(xid).is_some_and(|commit| *commit < position)).collect()
    }
}

impl Drop for Busy<'_> {
    /// A test that fails must not leave the writer behind.
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = psql::try_sql(
                self.cluster.socket.psql(&super::majors::programs(15).bin, &self.database, "postgres"),
                "INSERT INTO busy_end VALUES (now())",
            );
            let _ = thread.join();
        }
    }
}

/// Every commit in the archive, by transaction.
fn commits(cluster: &TestCluster) -> BTreeMap<String, u64> {
    cluster.archive_caught_up();
    let archive: PathBuf = cluster.archive.clone().unwrap();
    let mut names: Vec<String> = std::fs::read_dir(&archive).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name.len() == 24);
    names.sort();
    let mut command = program(cluster.programs.bin.join("pg_waldump"));
    command.args(["-r", "Transaction", "-p"]).arg(&archive).args([names.first().unwrap(), names.last().unwrap()]);
    let text = program::output(&mut command).stdout;
    let mut found = BTreeMap::new();
    for line in text.lines().filter(|line| line.contains("desc: COMMIT")) {
        let field = |name: &str| line.split(name).nth(1).unwrap().trim_start().split([',', ' ']).next().unwrap().to_string();
        found.insert(field("tx:"), number(&field("lsn:")));
    }
    found
}

fn number(lsn: &str) -> u64 {
    let (high, low) = lsn.split_once('/').unwrap();
    u64::from_str_radix(high, 16).unwrap() << 32 | u64::from_str_radix(low, 16).unwrap()
}
