//! Drizzle and Knex, from npm; with `scripts/test-migrations` also TypeORM, Umzug and Prisma Migrate.

use std::fs;
use std::path::Path;

use super::{Ground, SHOP};
use crate::support::{Scratch, program, tools};

/// drizzle-kit with five migrations, the last of which makes audit events immutable; applied in three batches.
#[test]
fn drizzle() {
    let scratch = Scratch::new("mig-drizzle");
    let Some(dir) = tools::node(&scratch, "app", "node") else { return };
    let ground = Ground::new(&scratch);
    ground.cluster.sql(SHOP, "CREATE TABLE audit_events (id bigserial PRIMARY KEY, note text)");
    let socket = &ground.cluster.socket;
    let config = serde_json::json!({
        "dialect": "postgresql", "schema": "./schema.js", "out": "./drizzle",
        "dbCredentials": {"host": socket.dir, "port": socket.port, "user": "postgres", "database": SHOP, "ssl": false},
    });
    fs::write(dir.join("drizzle.config.json"), config.to_string()).unwrap();
    fs::write(dir.join("schema.js"), "module.exports = {};\n").unwrap();
    let kit = |arguments: &[&str]| {
        program::ok(tools::node_program(&dir, "drizzle-kit").args(arguments).args(["--config", "drizzle.config.json"]))
    };
    let generate = |name: &str, sql: &str| {
        kit(&["generate", "--custom", "--name", name]);
        let files = fs::read_dir(dir.join("drizzle")).unwrap().map(|entry| entry.unwrap().path());
        let file = files.into_iter().find(|path| path.to_string_lossy().ends_with(&format!("_{name}.sql"))).unwrap();
        fs::write(file, sql).unwrap();
    };
    let up = |files: &[(&str, &str)]| {
        files.iter().for_each(|(name, sql)| generate(name, sql));
        kit(&["migrate"]);
    };
    ground.busily(&mut [
        &mut || {
            up(&[
                ("init", "CREATE TABLE projects (id bigint PRIMARY KEY);"),
                ("slug_index", "CREATE INDEX environments_slug ON environments (slug);"),
            ])
        },
        &mut || {
            up(&[("flatten", "UPDATE environments SET slug = lower(slug);"), ("note", "ALTER TABLE environments ADD COLUMN note text;")])
        },
        &mut || {
            up(&[(
                "audit_events_immutable",
                "CREATE FUNCTION audit_immutable() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'immutable'; END $$;
                 --> statement-breakpoint
                 CREATE TRIGGER audit_immutable BEFORE UPDATE OR DELETE ON audit_events FOR EACH ROW EXECUTE FUNCTION audit_immutable();",
            )])
        },
    ]);
    let meta = dir.join("drizzle");
    let flag = ["--dir", meta.to_str().unwrap()];

    let listed = ground.listed(&flag);
    let versions: Vec<&str> = listed.iter().map(|one| one["version"].as_str().unwrap()).collect();
    assert_eq!(versions, ["0000_init", "0001_slug_index", "0002_flatten", "0003_note", "0004_audit_events_immutable"]);
    assert_eq!((&listed[3]["class"], &listed[3]["how"], &listed[3]["reversible"]), (&"batch".into(), &"together".into(), &false.into()));
    let plan = ground.pitr.json(&[&["plan", "--before-migration", "0004"], flag.as_slice()].concat());
    assert_eq!(plan["target"]["lsn"], listed[4]["lsn"], "{plan:#}");

    ground.back_to_before("0003_note", &flag);

    let applied = || ground.cluster.sql(SHOP, "SELECT count(*) FROM drizzle.__drizzle_migrations");
    assert_eq!(applied(), "2", "the batch went as a whole");
    assert_eq!(ground.cluster.sql(SHOP, "SELECT count(*) FROM environments WHERE slug ~ '^Stage'"), "50");
    assert_eq!(ground.cluster.sql(SHOP, "SELECT count(*) FROM pg_trigger WHERE tgname = 'audit_immutable'"), "0");
    // drizzle-kit has no word for the state: it applies what it finds pending, and nothing is in its way.
    kit(&["migrate"]);
    assert_eq!(applied(), "5");
    assert_eq!(ground.cluster.sql(SHOP, "SELECT count(*) FROM environments WHERE slug ~ '^Stage'"), "0");
}

#[test]
fn knex() {
    let scratch = Scratch::new("mig-knex");
    let Some(dir) = tools::node(&scratch, "app", "node") else { return };
    let ground = Ground::new(&scratch);
    let socket = &ground.cluster.socket;
    let config = serde_json::json!({
        "client": "pg", "migrations": {"directory": "./migrations"},
        "connection": {"host": socket.dir, "port": socket.port, "user": "postgres", "database": SHOP},
    });
    fs::write(dir.join("knexfile.js"), format!("module.exports = {config};\n")).unwrap();
    fs::create_dir(dir.join("migrations")).unwrap();
    let file = |name: &str, sql: &str| {
        let text = format!("exports.up = (knex) => knex.raw(`{sql}`);\nexports.down = () => Promise.resolve();\n");
        fs::write(dir.join("migrations").join(name), text).unwrap();
    };
    file("20260101000001_index.js", "CREATE INDEX environments_slug ON environments (slug)");
    file("20260101000002_flatten.js", "UPDATE environments SET slug = lower(slug)");
    file("20260101000003_note.js", "ALTER TABLE environments ADD COLUMN note text");
    let knex = |arguments: &[&str]| program::ok(tools::node_program(&dir, "knex").args(arguments));
    let mut up = || {
        knex(&["migrate:up"]);
    };
    let (mut second, mut third) = (up, up);
    ground.busily(&mut [&mut up, &mut second, &mut third]);

    let migration = ground.back_to_before("20260101000002_flatten.js", &[]);

    assert_eq!((&migration["class"], &migration["how"]), (&"batch".into(), &"together".into()));
    let said = knex(&["migrate:list"]);
    assert!(said.contains("Found 1 Completed Migration") && said.contains("Found 2 Pending Migration"), "{said}");
    assert_eq!(ground.cluster.sql(SHOP, "SELECT count(*) FROM environments WHERE slug ~ '^Stage'"), "50");
    knex(&["migrate:latest"]);
}

/// A script of Node's in `dir`, which gets the connection as JSON.
fn script(ground: &Ground, dir: &Path, text: &str, arguments: &[&str]) -> String {
    let file = dir.join("run.js");
    fs::write(&file, text).unwrap();
    let socket = &ground.cluster.socket;
    let connection = serde_json::json!({"host": socket.dir, "port": socket.port, "username": "postgres", "database": SHOP});
    let mut command = program::program("node");
    command.arg(&file).arg(connection.to_string()).args(arguments).current_dir(dir).env("HOME", dir);
    program::ok(&mut command)
}

const TYPEORM: &str = r#"
const { DataSource } = require('typeorm');
const [connection, count] = process.argv.slice(2);
class Index1700000000001 { name = 'Index1700000000001';
  async up(q) { await q.query('CREATE INDEX environments_slug ON environments (slug)') } async down() {} }
class Flatten1700000000002 { name = 'Flatten1700000000002';
  async up(q) { await q.query('UPDATE environments SET slug = lower(slug)') } async down() {} }
class Note1700000000003 { name = 'Note1700000000003';
  async up(q) { await q.query('ALTER TABLE environments ADD COLUMN note text') } async down() {} }
const migrations = [Index1700000000001, Flatten1700000000002, Note1700000000003].slice(0, Number(count));
const source = new DataSource({ type: 'postgres', ...JSON.parse(connection), migrations });
(async () => {
  await source.initialize();
  if (process.argv[4] === 'show') console.log('pending', await source.showMigrations());
  else await source.runMigrations();
  await source.destroy();
})().catch((e) => { console.error(e); process.exit(1); });
"#;

#[test]
#[ignore = "scripts/test-migrations"]
fn typeorm() {
    let scratch = Scratch::new("mig-typeorm");
    let Some(dir) = tools::node(&scratch, "app", "node_more") else { return };
    let ground = Ground::new(&scratch);
    let run = |arguments: &[&str]| script(&ground, &dir, TYPEORM, arguments);
    ground.busily(&mut [&mut || drop(run(&["1"])), &mut || drop(run(&["2"])), &mut || drop(run(&["3"]))]);

    let migration = ground.back_to_before("Flatten1700000000002", &[]);

    assert_eq!((&migration["tool"], &migration["how"]), (&"typeorm".into(), &"together".into()));
    assert_eq!(run(&["1", "show"]).trim(), "pending false");
    assert_eq!(run(&["2", "show"]).trim(), "pending true");
    run(&["3"]);
}

const UMZUG: &str = r#"
const { Sequelize } = require('sequelize');
const { Umzug, SequelizeStorage } = require('umzug');
const [connection, verb] = process.argv.slice(2);
const sequelize = new Sequelize({ dialect: 'postgres', logging: false, ...JSON.parse(connection) });
const step = (name, ...list) => ({ name, up: async () => { for (const sql of list) await sequelize.query(sql) }, down: async () => {} });
const umzug = new Umzug({
  migrations: [
    step('01-index.js', 'CREATE INDEX environments_slug ON environments (slug)'),
    step('02-flatten.js', 'CREATE TABLE flattened AS SELECT * FROM environments', 'UPDATE environments SET slug = lower(slug)'),
    step('03-note.js', 'ALTER TABLE environments ADD COLUMN note text'),
  ],
  storage: new SequelizeStorage({ sequelize }), logger: undefined,
});
(async () => {
  if (verb === 'up') await umzug.up({ step: 1 });
  if (verb === 'rest') await umzug.up();
  if (verb === 'pending') console.log((await umzug.pending()).map((one) => one.name).join(' '));
  await sequelize.close();
})().catch((e) => { console.error(e); process.exit(1); });
"#;

/// Each statement commits by itself, then the row: the first of them is what has to go.
#[test]
#[ignore = "scripts/test-migrations"]
fn sequelize() {
    let scratch = Scratch::new("mig-umzug");
    let Some(dir) = tools::node(&scratch, "app", "node_more") else { return };
    let ground = Ground::new(&scratch);
    let run = |verb: &str| script(&ground, &dir, UMZUG, &[verb]);
    let mut up = || drop(run("up"));
    let (mut second, mut third) = (up, up);
    ground.busily(&mut [&mut up, &mut second, &mut third]);

    let migration = ground.back_to_before("02-flatten.js", &[]);

    assert_eq!((&migration["class"], &migration["how"]), (&"row-after-work".into(), &"before-row".into()));
    assert_eq!(run("pending").trim(), "02-flatten.js 03-note.js");
    assert_eq!(ground.cluster.sql(SHOP, "SELECT count(*) FROM pg_class WHERE relname = 'flattened'"), "0");
    run("rest");
}

/// The schema engine as WebAssembly, which the package brings, and JavaScript's driver: its native engine is fetched from
/// a server of Prisma's, so that `PRISMA_…` say where there is none. The adapter does not know the type `name`, by which
/// the engine lists schemas: it is given as text.
const PRISMA: &str = r#"
import { PrismaPg } from '@prisma/adapter-pg'
import Result from 'pg/lib/result.js'
const addFields = Result.prototype.addFields
Result.prototype.addFields = function (fields) {
  for (const field of fields) if (field.dataTypeID === 19) field.dataTypeID = 25
  return addFields.call(this, fields)
}
const connection = JSON.parse(process.env.CONNECTION)
export default {
  schema: './schema.prisma', migrations: { path: './migrations' },
  experimental: { adapter: true }, engine: 'js', adapter: async () => new PrismaPg(connection),
}
"#;

#[test]
#[ignore = "scripts/test-migrations"]
fn prisma() {
    let scratch = Scratch::new("mig-prisma");
    let Some(dir) = tools::node(&scratch, "app", "node_more") else { return };
    let ground = Ground::new(&scratch);
    // Prisma refuses a database with tables it does not know, unless its own table is there.
    let socket = &ground.cluster.socket;
    let connection = serde_json::json!({"host": socket.dir, "port": socket.port, "user": "postgres", "database": SHOP}).to_string();
    fs::write(dir.join("prisma.config.ts"), PRISMA).unwrap();
    fs::write(dir.join("schema.prisma"), "datasource db {\n  provider = \"postgresql\"\n  url = \"postgresql://unused\"\n}\n").unwrap();
    fs::create_dir(dir.join("migrations")).unwrap();
    fs::write(dir.join("migrations/migration_lock.toml"), "provider = \"postgresql\"\n").unwrap();
    let file = |name: &str, sql: &str| {
        fs::create_dir(dir.join("migrations").join(name)).unwrap();
        fs::write(dir.join("migrations").join(name).join("migration.sql"), sql).unwrap();
    };
    let prisma = |arguments: &[&str]| {
        let mut command = tools::node_program(&dir, "prisma");
        command.arg("migrate").args(arguments).env("CONNECTION", &connection).env("CHECKPOINT_DISABLE", "1");
        command.env("PRISMA_QUERY_ENGINE_LIBRARY", "/dev/null").env("PRISMA_SCHEMA_ENGINE_BINARY", "/dev/null");
        command
    };
    file("20260101000000_init", "CREATE TABLE projects (id bigint PRIMARY KEY);");
    program::ok(&mut prisma(&["resolve", "--applied", "20260101000000_init"]));
    let up = |name: &str, sql: &str| {
        file(name, sql);
        program::ok(&mut prisma(&["deploy"]));
    };
    ground.busily(&mut [
        &mut || up("20260101000001_index", "CREATE INDEX environments_slug ON environments (slug);"),
        &mut || up("20260101000002_flatten", "UPDATE environments SET slug = lower(slug);"),
        &mut || up("20260101000003_note", "ALTER TABLE environments ADD COLUMN note text;"),
    ]);

    let migration = ground.back_to_before("20260101000002_flatten", &["--dir", dir.join("migrations").to_str().unwrap()]);

    assert_eq!((&migration["tool"], &migration["how"]), (&"prisma".into(), &"mark".into()));
    let said = program::output(&mut prisma(&["status"])).expect_code(1).stdout;
    assert!(said.contains("20260101000002_flatten") && said.contains("20260101000003_note") && !said.contains("_index"), "{said}");
    assert!(said.contains("have not yet been applied") && !said.contains("failed"), "{said}");
    assert_eq!(ground.cluster.sql(SHOP, "SELECT count(*) FROM environments WHERE slug ~ '^Stage'"), "50");
    program::ok(&mut prisma(&["deploy"]));
}
