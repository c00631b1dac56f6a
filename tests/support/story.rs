//! The data of the story that `pitr` is made for: environment names that a lossy migration flattened.
//!
//! Every step leaves a [`Point`] with the facts of that moment, so that a recovery to it can be compared exactly.

use std::collections::BTreeMap;

use super::cluster::TestCluster;

/// The database of the story.
pub const DATABASE: &str = "mazevault";
/// A role that may read everything and is no superuser.
pub const CHECK_USER: &str = "mazevault_check";

/// What the tables hold: per table the number of rows and a hash of them all.
pub type Facts = BTreeMap<String, String>;

/// A moment right after a commit, before the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    /// The server's clock after that commit and before the next: `2026-11-21 21:05:19.998811+00`.
    pub time: String,
    /// The end of WAL after that commit, `0/3000148`: exact for `--before-lsn`.
    pub lsn: String,
    /// The transaction that committed last, 64 bits.
    pub xid: String,
    /// The data at that moment.
    pub facts: Facts,
}

/// One migration as golang-migrate runs it: `(version, dirty)`, the migration, `(version, clean)`; three transactions.
#[derive(Debug, Clone)]
pub struct Migration {
    /// Its version.
    pub version: i64,
    /// The last moment without any of it.
    pub before: Point,
    /// The transaction that announced it (wrote `dirty = true`).
    pub first_xid: String,
    /// After its last transaction.
    pub after: Point,
}

/// The story in one cluster.
#[derive(Debug)]
pub struct Story<'a> {
    cluster: &'a TestCluster,
}

/// The two audiences' validation query of the runbook, with expectations.
pub const CHECKS: &str = "\
-- check: migration history rolled back
-- expect: max(version) < 123 and not bool_or(dirty)
SELECT version, dirty FROM schema_migrations ORDER BY version DESC LIMIT 5;

-- check: a mixed-case slug is back
-- expect: count(*) > 0
SELECT slug FROM environments WHERE slug ~ '[A-Z]' LIMIT 5;

-- check: gateway environments
SELECT environment, supported_environments FROM gateways LIMIT 10;
";

const SCHEMA: &str = "
CREATE TABLE schema_migrations (version bigint NOT NULL PRIMARY KEY, dirty boolean NOT NULL);
CREATE TABLE environments (id bigint PRIMARY KEY, organization_id bigint NOT NULL, slug text NOT NULL, environment text NOT NULL);
CREATE TABLE gateways (id bigint PRIMARY KEY, environment text NOT NULL, supported_environments text[] NOT NULL);
CREATE TABLE audit_events (id bigserial PRIMARY KEY, organization_id bigint NOT NULL, note text NOT NULL);
INSERT INTO schema_migrations VALUES (120, false);
INSERT INTO environments SELECT i, i % 7, (ARRAY['PROD', 'Stage-2', 'dev', ' QA '])[1 + i % 4] || '-' || i,
    (ARRAY['PROD', 'Stage-2', 'dev', ' QA '])[1 + i % 4] FROM generate_series(1, 400) AS i;
INSERT INTO gateways SELECT i, (ARRAY['PROD', 'Stage-2', 'dev'])[1 + i % 3], ARRAY['PROD', 'Stage-2', 'Dev'] FROM generate_series(1, 60) AS i;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO mazevault_check;
";

const FACTS: &str = "
SELECT 'schema_migrations', count(*), coalesce(sum(hashtextextended(t::text, 0)::numeric), 0)::text FROM schema_migrations t
UNION ALL SELECT 'environments', count(*), coalesce(sum(hashtextextended(t::text, 0)::numeric), 0)::text FROM environments t
UNION ALL SELECT 'gateways', count(*), coalesce(sum(hashtextextended(t::text, 0)::numeric), 0)::text FROM gateways t
UNION ALL SELECT 'audit_events', count(*), coalesce(sum(hashtextextended(t::text, 0)::numeric), 0)::text FROM audit_events t";

impl<'a> Story<'a> {
    /// Creates the database with its roles, tables and mixed-case rows, at version 120.
    pub fn begin(cluster: &'a TestCluster) -> Story<'a> {
        cluster.sql("postgres", &format!("CREATE ROLE {CHECK_USER} LOGIN; CREATE ROLE mazevault LOGIN;"));
        cluster.sql("postgres", &format!("CREATE DATABASE {DATABASE} OWNER mazevault"));
        cluster.sql(DATABASE, SCHEMA);
        Story { cluster }
    }

    /// The story of a cluster where it has begun already.
    pub fn on(cluster: &'a TestCluster) -> Story<'a> {
        Story { cluster }
    }

    /// Commits `n` transactions, each with one new row in `audit_events`.
    #[track_caller]
    pub fn work(&self, n: u32) -> Point {
        assert!(n > 0, "work without a commit has no point");
        let insert = "INSERT INTO audit_events (organization_id, note) VALUES (1, 'Rotated Key') RETURNING pg_current_xact_id();\n";
        let xids = self.cluster.script(DATABASE, &insert.repeat(n as usize));
        self.point(xids.lines().next_back().unwrap())
    }

    /// Commits one transaction that makes about `mib` MiB of WAL.
    #[track_caller]
    pub fn bulk(&self, mib: u32) -> Point {
        let rows = u64::from(mib) * 1000;
        let insert = format!(
            "INSERT INTO audit_events (organization_id, note) SELECT 2, repeat(md5(i::text), 30) FROM generate_series(1, {rows}) AS i;
             SELECT pg_current_xact_id()"
        );
        // One -c is one transaction.
        let xid = self.cluster.sql(DATABASE, &insert);
        self.point(&xid)
    }

    /// Writes a named restore point; the point is right after it.
    #[track_caller]
    pub fn restore_point(&self, name: &str) -> Point {
        let before = self.work(1);
        self.cluster.sql(DATABASE, &format!("SELECT pg_create_restore_point('{name}')"));
        self.point(&before.xid)
    }

    /// Runs migration `version` (121 to 125) as golang-migrate does.
    #[track_caller]
    pub fn migrate(&self, version: i64) -> Migration {
        let before = self.work(1);
        let first_xid = self.set_version(version, true);
        self.cluster.sql(DATABASE, statements(version));
        let last_xid = self.set_version(version, false);
        Migration { version, before, first_xid, after: self.point(&last_xid) }
    }

    fn set_version(&self, version: i64, dirty: bool) -> String {
        let text = format!(
            "TRUNCATE schema_migrations; INSERT INTO schema_migrations (version, dirty) VALUES ({version}, {dirty});
             SELECT pg_current_xact_id()"
        );
        self.cluster.sql(DATABASE, &text)
    }

    /// The data as the cluster has it now.
    #[track_caller]
    pub fn facts(&self) -> Facts {
        facts(self.cluster, DATABASE)
    }

    /// Panics unless the cluster holds exactly what it held at `point`.
    #[track_caller]
    pub fn assert_at(&self, point: &Point) {
        assert_eq!(self.facts(), point.facts, "the data is not that of {} ({})", point.time, point.lsn);
    }

    /// How many slugs have a capital letter: 300 before migration 123, none after.
    #[track_caller]
    pub fn mixed_case_slugs(&self) -> u32 {
        self.cluster.sql(DATABASE, "SELECT count(*) FROM environments WHERE slug ~ '[A-Z]'").parse().unwrap()
    }

    fn point(&self, xid: &str) -> Point {
        // The facts take longer than a clock tick: the time is after this commit and before the next.
        let facts = self.facts();
        let point = Point { time: self.cluster.now(), lsn: self.cluster.wal_lsn(), xid: xid.to_string(), facts };
        std::thread::sleep(std::time::Duration::from_millis(2));
        point
    }
}

/// The facts of the story in any cluster, such as one that was recovered by hand.
#[track_caller]
pub fn facts(cluster: &TestCluster, database: &str) -> Facts {
    of_rows(cluster.psql_rows(database, FACTS))
}

/// The same by any `psql` on the story's database.
#[track_caller]
pub fn facts_by(psql: impl Fn() -> std::process::Command) -> Facts {
    of_rows(super::psql::rows(psql(), FACTS))
}

fn of_rows(rows: Vec<Vec<String>>) -> Facts {
    rows.into_iter().map(|row| (row[0].clone(), format!("{} rows, hash {}", row[1], row[2]))).collect()
}

fn statements(version: i64) -> &'static str {
    match version {
        121 => "CREATE INDEX environments_slug_lower ON environments (LOWER(TRIM(slug)))",
        122 => "CREATE INDEX gateways_environment_lower ON gateways (LOWER(TRIM(environment)))",
        123 => "UPDATE environments SET slug = LOWER(TRIM(slug)), environment = LOWER(TRIM(environment))",
        124 => {
            "UPDATE gateways SET environment = LOWER(TRIM(environment)),
                supported_environments = ARRAY(SELECT LOWER(TRIM(e)) FROM unnest(supported_environments) AS e)"
        }
        125 => "ALTER TABLE environments ADD CONSTRAINT environments_slug_canonical CHECK (slug = LOWER(slug))",
        _ => panic!("the story has migrations 121 to 125"),
    }
}
