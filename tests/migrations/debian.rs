//! Tools that Debian packages: Sqitch, Rails' Active Record, Sequel.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{Ground, SHOP};
use crate::support::{Scratch, program, tools};

/// Its scripts bring their own transactions; the row is written by another.
#[test]
#[ignore = "scripts/test-migrations"]
fn sqitch() {
    let scratch = Scratch::new("mig-sqitch");
    let Some(_) = tools::part("debian") else { return };
    let ground = Ground::new(&scratch);
    let dir = scratch.dir("app", "root", "root", 0o755);
    let database = format!("db:pg:{SHOP}");
    let sqitch = |arguments: &[&str]| {
        let mut command = with_libpq(&ground, &dir, "sqitch");
        command.args(arguments).env("SQITCH_FULLNAME", "A person").env("SQITCH_EMAIL", "a@localhost").env("TZ", "UTC");
        command
    };
    program::ok(&mut sqitch(&["init", "shop", "--engine", "pg"]));
    let add = |name: &str, sql: &str| {
        program::ok(&mut sqitch(&["add", name, "-n", name]));
        fs::write(dir.join(format!("deploy/{name}.sql")), format!("BEGIN;\n{sql};\nCOMMIT;\n")).unwrap();
        program::ok(&mut sqitch(&["deploy", &database]));
    };
    ground.busily(&mut [
        &mut || add("index", "CREATE INDEX environments_slug ON environments (slug)"),
        &mut || add("flatten", "UPDATE environments SET slug = lower(slug); CREATE INDEX environments_both ON environments (id, slug)"),
        &mut || add("note", "ALTER TABLE environments ADD COLUMN note text"),
    ]);

    let migration = ground.back_to_before("flatten", &[]);

    assert_eq!((&migration["tool"], &migration["how"]), (&"sqitch".into(), &"before-row".into()));
    let said = program::ok(&mut sqitch(&["status", &database]));
    assert!(said.contains("Undeployed changes:\n  * flatten\n  * note"), "{said}");
    assert_eq!(ground.cluster.sql(SHOP, "SELECT count(*) FROM environments WHERE slug ~ '^Stage'"), "50");
    program::ok(&mut sqitch(&["deploy", &database]));
}

const RAILS: &str = r##"
require 'active_record'
ActiveRecord::Base.establish_connection(adapter: 'postgresql', database: ENV['PGDATABASE'])
dir, verb, version = ARGV
# From 7.1 on it knows the table of its versions itself.
context = begin
  ActiveRecord::MigrationContext.new(dir)
rescue ArgumentError
  ActiveRecord::MigrationContext.new(dir, ActiveRecord::SchemaMigration)
end
ActiveRecord::Migration.verbose = false
context.up(version && version.to_i) if verb == 'up'
context.migrations_status.each { |state, number, name| puts "#{state} #{number} #{name}" }
"##;

#[test]
#[ignore = "scripts/test-migrations"]
fn rails() {
    let scratch = Scratch::new("mig-activerecord");
    let Some(_) = tools::part("debian") else { return };
    let ground = Ground::new(&scratch);
    let dir = scratch.dir("app", "root", "root", 0o755);
    fs::create_dir(dir.join("migrate")).unwrap();
    fs::write(dir.join("run.rb"), RAILS).unwrap();
    let file = |number: u8, class: &str, sql: &str| {
        let text = format!("class {class} < ActiveRecord::Migration[6.1]\n  def up\n    execute '{sql}'\n  end\nend\n");
        fs::write(dir.join(format!("migrate/2026010100000{number}_{}.rb", class.to_lowercase())), text).unwrap();
    };
    file(1, "Index", "CREATE INDEX environments_slug ON environments (slug)");
    file(2, "Flatten", "UPDATE environments SET slug = lower(slug)");
    file(3, "Note", "ALTER TABLE environments ADD COLUMN note text");
    let ruby = |arguments: &[&str]| {
        let mut command = with_libpq(&ground, &dir, "ruby");
        program::ok(command.arg("run.rb").arg("migrate").args(arguments))
    };
    ground.busily(&mut [&mut || drop(ruby(&["up", "20260101000001"])), &mut || drop(ruby(&["up", "20260101000002"])), &mut || {
        drop(ruby(&["up", "20260101000003"]))
    }]);

    let migration = ground.back_to_before("20260101000002", &[]);

    assert_eq!((&migration["tool"], &migration["how"]), (&"rails".into(), &"together".into()));
    assert_eq!(ruby(&["status"]), "up 20260101000001 Index\ndown 20260101000002 Flatten\ndown 20260101000003 Note\n");
    assert_eq!(ground.cluster.sql(SHOP, "SELECT count(*) FROM environments WHERE slug ~ '^Stage'"), "50");
    ruby(&["up"]);
}

const SEQUEL: &str = r##"
require 'sequel'
Sequel.extension :migration
database = Sequel.connect('postgres://', database: ENV['PGDATABASE'])
dir, target = ARGV
Sequel::Migrator.run(database, dir, target && { target: target.to_i } || {}) unless target == 'look'
puts Sequel::Migrator.is_current?(database, dir)
"##;

#[test]
#[ignore = "scripts/test-migrations"]
fn sequel() {
    let scratch = Scratch::new("mig-sequel");
    let Some(_) = tools::part("debian") else { return };
    let ground = Ground::new(&scratch);
    let dir = scratch.dir("app", "root", "root", 0o755);
    fs::create_dir(dir.join("migrate")).unwrap();
    fs::write(dir.join("run.rb"), SEQUEL).unwrap();
    let file = |name: &str, sql: &str| {
        fs::write(dir.join("migrate").join(name), format!("Sequel.migration do\n  up {{ run '{sql}' }}\n  down {{}}\nend\n")).unwrap();
    };
    file("20260101000001_index.rb", "CREATE INDEX environments_slug ON environments (slug)");
    file("20260101000002_flatten.rb", "UPDATE environments SET slug = lower(slug)");
    file("20260101000003_note.rb", "ALTER TABLE environments ADD COLUMN note text");
    let ruby = |target: &[&str]| {
        let mut command = with_libpq(&ground, &dir, "ruby");
        program::ok(command.arg("run.rb").arg("migrate").args(target))
    };
    ground.busily(&mut [&mut || drop(ruby(&["20260101000001"])), &mut || drop(ruby(&["20260101000002"])), &mut || {
        drop(ruby(&["20260101000003"]))
    }]);

    let migration = ground.back_to_before("20260101000002_flatten.rb", &[]);

    assert_eq!((&migration["tool"], &migration["how"]), (&"sequel".into(), &"together".into()));
    assert_eq!(ruby(&["look"]), "false\n");
    assert_eq!(ground.cluster.sql(SHOP, "SELECT string_agg(filename, ' ') FROM schema_migrations"), "20260101000001_index.rb");
    assert_eq!(ground.cluster.sql(SHOP, "SELECT count(*) FROM environments WHERE slug ~ '^Stage'"), "50");
    assert_eq!(ruby(&[]), "true\n");
}

/// A program in `dir` whose libpq finds the cluster.
fn with_libpq(ground: &Ground, dir: &Path, name: &str) -> Command {
    let socket = &ground.cluster.socket;
    let mut command = program::program(name);
    command.current_dir(dir).env("HOME", dir).env("PGHOST", &socket.dir).env("PGPORT", socket.port.to_string());
    command.env("PGUSER", "postgres").env("PGDATABASE", SHOP);
    command
}
