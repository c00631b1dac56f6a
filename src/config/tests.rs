//! The design's example, each kind of mistake, and who may write the files. The last part needs root.

use super::*;
use crate::error::Kind;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};

const EXAMPLE: &str = r#"
state_directory = "/srv/pitr/"

[cluster.15-main]
data_directory = "/var/lib/postgresql/15/main"
service = "postgresql@15-main.service"
control = "pg_ctlcluster"
backups = ["/var/backups/postgres"]
wal_archive = ["/var/backups/postgres/wal", "/mnt/wal"]
database = "mazevault"
user = "postgres"
check_user = "checker"
checks = ["/etc/pitr/checks/mazevault.sql"]
quiesce = ["mazevault-backend.service", "mazevault-gateway.service"]
protected = ["public.audit_events"]
require = ["reason"]
rto = "4h"
rpo = "5min"
pg_bindir = "/usr/lib/postgresql/15/bin"
environment = ["LD_LIBRARY_PATH=/opt/pgsql/lib", "TZ=UTC"]

[cluster.15-main.hooks]
before = [["/usr/local/sbin/notify", "recovery starts"]]
before_stop = [["/usr/local/sbin/pgbouncer-pause"]]
after_start = [["/usr/local/sbin/pgbouncer-resume"], ["/bin/true"]]
held = []
"#;

fn read(text: &str) -> Result<parse::Part> {
    parse(text, Path::new("/etc/pitr/pitr.toml"))
}

#[test]
fn the_documented_example() {
    let part = read(EXAMPLE).unwrap();
    assert_eq!(part.state_directory, Some("/srv/pitr".into()));
    let cluster = &part.clusters["15-main"];
    assert_eq!(cluster.file, Path::new("/etc/pitr/pitr.toml"));
    assert_eq!(cluster.data_directory.as_deref(), Some(Path::new("/var/lib/postgresql/15/main")));
    assert_eq!((cluster.control, cluster.rto, cluster.rpo), (Some(Control::PgCtlcluster), Some(14400), Some(300)));
    assert_eq!(cluster.quiesce, ["mazevault-backend.service", "mazevault-gateway.service"]);
    assert_eq!(cluster.require, [Requirement::Reason]);
    assert_eq!(cluster.hooks.before, [["/usr/local/sbin/notify", "recovery starts"]]);
    assert_eq!(cluster.hooks.after_start.len(), 2);
    assert_eq!(cluster.environment, ["LD_LIBRARY_PATH=/opt/pgsql/lib", "TZ=UTC"]);
    assert!(cluster.hooks.held.is_empty() && cluster.hooks.done.is_empty());
    let trusted = cluster.trusted();
    assert_eq!(trusted.backups, [Path::new("/var/backups/postgres")]);
    assert_eq!(trusted.wal, ["/var/backups/postgres/wal", "/mnt/wal"].map(Path::new));
    let json = serde_json::to_string(cluster).unwrap();
    assert_eq!(&serde_json::from_str::<ClusterConfig>(&json).unwrap(), cluster);
}

#[test]
fn nothing_is_mandatory() {
    assert_eq!(merge(vec![read("").unwrap()]).unwrap(), Config::default());
    assert_eq!(read("[cluster.a]").unwrap().clusters["a"].backups, Vec::<PathBuf>::new());
}

#[test]
fn names_of_clusters() {
    assert_eq!(cluster_name("15/main"), Ok("15-main".into()));
    assert!(read("[cluster.\"15/main\"]\n").unwrap().clusters.contains_key("15-main"));
    for name in ["", "-x", ".x", "..", "a/b", "15/../x", "15//x", "a b", "é", "15/"] {
        assert!(cluster_name(name).is_err(), "{name:?}");
    }
    let error = read("[cluster.15-main]\n[cluster.\"15/main\"]\n").unwrap_err();
    assert_eq!(
        (error.what.as_str(), error.cause.as_deref()),
        ("configuration /etc/pitr/pitr.toml:2", Some("cluster 15-main is defined twice"))
    );
}

#[test]
fn an_unknown_key_has_its_line_and_the_nearest_known_one() {
    for (text, line, near) in [
        ("\n\nstate_dir = \"/x\"", 3, "state_directory"),
        ("[clusters.a]", 1, "cluster"),
        ("[cluster.a]\nbackup = [\"/b\"]", 2, "backups"),
        ("[cluster.a]\nuser = \"x\"\nwal-archive = [\"/b\"]", 3, "wal_archive"),
        ("[cluster.a]\ndatadirectory = \"/x\"", 2, "data_directory"),
        ("[cluster.a.hooks]\nbefor_stop = []", 2, "before_stop"),
    ] {
        let error = read(text).unwrap_err();
        assert_eq!(error.kind, Kind::Usage);
        assert_eq!(error.what, format!("configuration /etc/pitr/pitr.toml:{line}"), "{text}");
        assert_eq!(error.hint, Some(format!("Did you mean {near}?")), "{text}");
    }
    let error = read("[cluster.a]\nzzz = 1").unwrap_err();
    assert!(error.hint.unwrap().starts_with("Known keys here: data_directory, "));
}

#[test]
fn a_malformed_value_has_its_line() {
    for line in [
        "data_directory = \"relative\"",
        "data_directory = \"/a/../b\"",
        "data_directory = \"\"",
        "data_directory = 5",
        "data_directory = \"/a\\nb\"",
        "service = \"postgresql\"",
        "service = \"-H.service\"",
        "service = \"*.service\"",
        "service = \".service\"",
        "control = \"docker\"",
        "environment = [\"LD_PRELOAD=/tmp/x\"]",
        "environment = [\"LD_LIBRARY_PATH\"]",
        "environment = \"TZ=UTC\"",
        "backups = \"/b\"",
        "backups = [\"b\"]",
        "backups = [1]",
        "database = \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"",
        "quiesce = [\"/usr/bin/x\"]",
        "protected = [\"audit_events\"]",
        "require = [\"reasons\"]",
        "rto = 4",
        "rto = \"4m\"",
        "hooks = []",
        "hooks.before = [\"/bin/true\"]",
        "hooks.before = [[]]",
        "hooks.before = [[\"true\"]]",
        "hooks.before = [[\"/bin/../tmp/x\"]]",
        "hooks.before = [[\"/bin/x\\u0000\"]]",
        "hooks.before = [[\"/bin/echo\", 5]]",
        "user = \"a\"\nuser = \"b\"",
        "user = ",
    ] {
        let error = read(&format!("# first\n[cluster.a]\n{line}\n")).unwrap_err();
        assert_eq!(error.kind, Kind::Usage, "{line}");
        assert!(error.what.starts_with("configuration /etc/pitr/pitr.toml:"), "{error:?}");
        assert!(error.what.ends_with(":3") || error.what.ends_with(":4"), "{line}: {error:?}");
        assert!(error.cause.is_some() && error.hint.is_some(), "{error:?}");
    }
    assert!(read("cluster = 5").unwrap_err().cause.unwrap().contains("table"));
    assert!(read("[cluster]\na = 5").unwrap_err().cause.unwrap().contains("table"));
}

#[test]
fn no_text_makes_it_panic() {
    for cut in (0..EXAMPLE.len()).filter(|cut| EXAMPLE.is_char_boundary(*cut)) {
        let _ = read(&EXAMPLE[..cut]);
        let mut bytes = EXAMPLE.as_bytes().to_vec();
        for flipped in [bytes[cut] ^ 1, bytes[cut] ^ 0x40, b'"', 0] {
            bytes[cut] = flipped;
            if let Ok(text) = std::str::from_utf8(&bytes) {
                let _ = read(text);
            }
        }
    }
}

/// A directory as /etc/pitr is.
fn etc() -> tempfile::TempDir {
    assert!(rustix::process::geteuid().is_root(), "these tests give files away and need root");
    let etc = tempfile::tempdir().unwrap();
    fs::create_dir(etc.path().join("conf.d")).unwrap();
    put(&etc.path().join("pitr.toml"), "state_directory = \"/s\"\n");
    put(&etc.path().join("conf.d/b.toml"), "[cluster.b]\n");
    put(&etc.path().join("conf.d/a.toml"), "[cluster.a]\n");
    put(&etc.path().join("conf.d/.hidden.toml"), "nonsense\n");
    put(&etc.path().join("conf.d/a.toml.bak"), "nonsense\n");
    etc
}

fn put(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    mode(path, 0o644);
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn load_etc(etc: &tempfile::TempDir) -> Result<Config> {
    load_from(&etc.path().join("pitr.toml"), &etc.path().join("conf.d"))
}

fn refusal(result: Result<Config>, path: &Path, why: &str) {
    let error = result.unwrap_err();
    assert_eq!(error.kind, Kind::Refused, "{error:?}");
    assert_eq!(error.what, format!("configuration file others can write: {}", path.display()));
    assert!(error.cause.clone().unwrap().contains(why), "{error:?}");
}

#[test]
fn files_are_joined() {
    let etc = etc();
    let config = load_etc(&etc).unwrap();
    assert_eq!(config.state_directory, Path::new("/s"));
    assert_eq!(config.clusters.keys().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(config.clusters["a"].file, etc.path().join("conf.d/a.toml"));
    let alone = load(Some(&etc.path().join("conf.d/b.toml"))).unwrap();
    assert_eq!(alone.clusters.len(), 1);
}

#[test]
fn missing_files_are_no_error_unless_named() {
    let etc = etc();
    let nowhere = etc.path().join("nowhere");
    assert_eq!(load_from(&nowhere.join("pitr.toml"), &nowhere.join("conf.d")).unwrap(), Config::default());
    let error = load(Some(&nowhere)).unwrap_err();
    assert_eq!(error.kind, Kind::Usage);
    assert!(error.what.contains("nowhere does not exist"));
}

#[test]
fn two_definitions_name_both_files() {
    let etc = etc();
    put(&etc.path().join("conf.d/c.toml"), "[cluster.a]\n");
    let error = load_etc(&etc).unwrap_err();
    assert_eq!(error.kind, Kind::Usage);
    assert!(error.what.contains("cluster a") && error.what.contains("conf.d/a.toml") && error.what.contains("conf.d/c.toml"), "{error:?}");
    put(&etc.path().join("conf.d/c.toml"), "state_directory = \"/t\"\n");
    assert!(load_etc(&etc).unwrap_err().what.contains("state_directory is defined in"));
}

#[test]
fn a_file_that_others_can_write_is_refused() {
    for name in ["pitr.toml", "conf.d/a.toml"] {
        let etc = etc();
        let file = etc.path().join(name);
        for bad in [0o664, 0o646, 0o1666] {
            mode(&file, bad);
            refusal(load_etc(&etc), &file, &format!("{bad:04o}"));
        }
        mode(&file, 0o600);
        load_etc(&etc).unwrap();
        chown(&file, Some(1), None).unwrap();
        refusal(load_etc(&etc), &file, "user 1");
    }
}

#[test]
fn a_directory_that_others_can_write_is_refused() {
    let etc = etc();
    let directory = etc.path().join("conf.d");
    for bad in [0o775, 0o757, 0o1777] {
        mode(&directory, bad);
        refusal(load_etc(&etc), &directory, &format!("{bad:04o}"));
    }
    mode(&directory, 0o755);
    mode(etc.path(), 0o770);
    refusal(load_etc(&etc), etc.path(), "0770");
    mode(etc.path(), 0o1777);
    load_etc(&etc).unwrap();
    mode(etc.path(), 0o700);
    chown(etc.path(), Some(1), None).unwrap();
    refusal(load_etc(&etc), etc.path(), "user 1");
    assert_eq!(load(Some(&etc.path().join("pitr.toml"))).unwrap_err().kind, Kind::Refused);
}

#[test]
fn the_last_component_is_a_regular_file_and_no_link() {
    let etc = etc();
    let file = etc.path().join("pitr.toml");
    fs::remove_file(&file).unwrap();
    symlink(etc.path().join("conf.d/a.toml"), &file).unwrap();
    refusal(load_etc(&etc), &file, "symbolic link");
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    refusal(load_etc(&etc), &file, "not a regular file");
    fs::remove_dir(&file).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, &file, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    refusal(load_etc(&etc), &file, "not a regular file");
    fs::remove_file(&file).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(&file).unwrap();
    refusal(load_etc(&etc), &file, "not a regular file");
}

#[test]
fn links_on_the_way_belong_to_root_and_lead_where_only_root_writes() {
    let etc = etc();
    let by_link = etc.path().join("link/a.toml");
    symlink("conf.d/../conf.d", etc.path().join("link")).unwrap();
    assert!(load(Some(&by_link)).unwrap().clusters.contains_key("a"));
    mode(&etc.path().join("conf.d"), 0o777);
    refusal(load(Some(&by_link)), &etc.path().join("conf.d"), "0777");
    mode(&etc.path().join("conf.d"), 0o755);
    std::os::unix::fs::lchown(etc.path().join("link"), Some(1), None).unwrap();
    refusal(load(Some(&by_link)), &etc.path().join("link"), "user 1");
    symlink("turn", etc.path().join("turn")).unwrap();
    refusal(load(Some(&etc.path().join("turn/a.toml"))), &etc.path().join("turn"), "too many");
    symlink(etc.path().join("conf.d"), etc.path().join("absolute")).unwrap();
    assert!(load(Some(&etc.path().join("absolute/b.toml"))).is_ok());
}

#[test]
fn what_is_no_text_is_refused() {
    let etc = etc();
    let file = etc.path().join("pitr.toml");
    fs::write(&file, b"user = \"\xff\"").unwrap();
    assert!(load_etc(&etc).unwrap_err().what.contains("not UTF-8"));
    fs::write(&file, vec![b'#'; (1 << 20) + 1]).unwrap();
    assert!(load_etc(&etc).unwrap_err().what.contains("larger than 1 MiB"));
}
