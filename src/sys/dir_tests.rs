use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;

use super::change::DEEPEST;
use super::*;

fn scratch() -> (tempfile::TempDir, Dir) {
    let held = tempfile::tempdir().unwrap();
    let dir = Dir::open(held.path()).unwrap();
    (held, dir)
}

fn cause<T: std::fmt::Debug>(result: Result<T>) -> String {
    result.unwrap_err().cause.unwrap()
}

#[test]
fn a_final_link_is_not_opened_even_with_a_slash_after_it() {
    let (held, _) = scratch();
    std::fs::create_dir(held.path().join("real")).unwrap();
    symlink("real", held.path().join("link")).unwrap();
    assert!(Dir::open(held.path().join("real/")).is_ok());
    for path in ["link", "link/", "link/."] {
        assert!(Dir::open(held.path().join(path)).is_err(), "{path}");
    }
}

#[test]
fn nothing_leaves_the_directory() {
    let (held, dir) = scratch();
    let inner = dir.make_dir("inner", 0o700).unwrap();
    std::fs::write(held.path().join("secret"), "s").unwrap();
    symlink(held.path(), held.path().join("inner/up")).unwrap();
    symlink(held.path().join("secret"), held.path().join("inner/file")).unwrap();
    for rel in ["../secret", "up/secret", "file", "/etc/passwd", "./up/../secret", "up"] {
        assert!(inner.open_file(rel).is_err(), "{rel}");
        assert!(inner.read_file(rel, 10).is_err(), "{rel}");
        assert!(inner.create_file(rel, 0o600).is_err(), "{rel}");
    }
    for rel in ["up", "..", "up/inner", "/"] {
        assert!(inner.open_beneath(rel).is_err(), "{rel}");
        assert!(inner.make_dirs(rel, 0o700).is_err(), "{rel}");
    }
    for rel in ["up/x", "../x", "/var/tmp/x"] {
        assert!(inner.write_durable(rel, b"x", 0o600).is_err(), "{rel}");
        assert!(inner.make_dir(rel, 0o700).is_err(), "{rel}");
        assert!(inner.metadata(rel).is_err(), "{rel}");
        assert!(inner.unlink(rel).is_err(), "{rel}");
    }
    assert!(cause(inner.open_file("file")).contains("symbolic link"));
    assert!(cause(inner.open_beneath("up")).contains("symbolic link"));
    assert_eq!(inner.metadata("up").unwrap().kind, Kind::Link);
    assert_eq!(inner.read_link("up").unwrap(), held.path());
    assert_eq!(std::fs::read(held.path().join("secret")).unwrap(), b"s");
}

#[test]
fn special_files_are_refused_without_blocking() {
    let (held, dir) = scratch();
    nix::unistd::mkfifo(&held.path().join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let _socket = UnixListener::bind(held.path().join("socket")).unwrap();
    assert!(cause(dir.open_file("fifo")).contains("not a regular file"));
    assert!(dir.open_file("socket").is_err());
    assert!(cause(dir.open_file(".")).contains("not a regular file"));
    let kinds: Vec<_> = dir.entries().unwrap().iter().map(|e| (e.name_str().unwrap().to_string(), e.kind())).collect();
    assert_eq!(kinds, [("fifo".to_string(), Kind::Other), ("socket".to_string(), Kind::Other)]);
}

#[test]
fn created_things_are_new_and_have_the_asked_mode() {
    let (held, dir) = scratch();
    let mode = |rel: &str| std::fs::metadata(held.path().join(rel)).unwrap().permissions().mode() & 0o7777;
    dir.make_dirs("a/b", 0o750).unwrap();
    dir.make_dirs("a/b/c", 0o700).unwrap();
    dir.create_file("a/b/f", 0o640).unwrap().write_all(b"1").unwrap();
    dir.write_durable("a/w", b"old", 0o666).unwrap();
    dir.write_durable("a/w", b"new", 0o644).unwrap();
    assert_eq!([mode("a"), mode("a/b"), mode("a/b/c"), mode("a/b/f"), mode("a/w")], [0o750, 0o750, 0o700, 0o640, 0o644]);
    assert_eq!(dir.read_file("a/w", 3).unwrap(), b"new");
    assert!(cause(dir.read_file("a/w", 2)).contains("larger than 2 bytes"));
    assert!(dir.create_file("a/w", 0o600).is_err());
    assert!(dir.make_dir("a", 0o700).is_err());
    assert_eq!(dir.open_beneath("a").unwrap().entries().unwrap().len(), 2, "no temporary file stays");
    assert_eq!(dir.read_file_if_exists("a/none/x", 1).unwrap(), None);
    assert_eq!(dir.metadata_if_exists("none").unwrap(), None);
    assert!(!dir.unlink_if_exists("none").unwrap());
}

#[test]
fn a_durable_write_replaces_a_link_and_not_its_target() {
    let (held, dir) = scratch();
    std::fs::write(held.path().join("target"), "t").unwrap();
    symlink("target", held.path().join("link")).unwrap();
    dir.write_durable("link", b"x", 0o600).unwrap();
    assert_eq!(std::fs::read(held.path().join("target")).unwrap(), b"t");
    assert_eq!(dir.metadata("link").unwrap().kind, Kind::File);
}

#[test]
fn names_change_places() {
    let (_held, dir) = scratch();
    let other = dir.make_dir("other", 0o700).unwrap();
    dir.write_durable("a", b"a", 0o600).unwrap();
    other.write_durable("b", b"b", 0o600).unwrap();
    dir.exchange("a", &other, "b").unwrap();
    assert_eq!((dir.read_file("a", 9).unwrap(), other.read_file("b", 9).unwrap()), (b"b".to_vec(), b"a".to_vec()));
    let refused = dir.rename_noreplace("a", &other, "b").unwrap_err();
    assert!(refused.what.contains("/a to ") && refused.what.ends_with("other/b"), "{}", refused.what);
    dir.rename("a", &other, "b").unwrap();
    assert_eq!(other.read_file("b", 9).unwrap(), b"b");
    assert!(dir.rename("other/b", &dir, "c").is_err(), "names only");
    assert!(dir.exchange("missing", &other, "b").is_err());
}

#[test]
fn a_tree_is_removed_without_its_links_targets() {
    let (held, dir) = scratch();
    dir.make_dirs("keep", 0o700).unwrap().write_durable("file", b"x", 0o600).unwrap();
    dir.make_dirs("tree/deep/er", 0o700).unwrap().write_durable("file", b"x", 0o600).unwrap();
    symlink("../keep", held.path().join("tree/link")).unwrap();
    symlink("/nonexistent", held.path().join("tree/deep/dangling")).unwrap();
    nix::unistd::mkfifo(&held.path().join("tree/fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    for name in [".", "..", "tree/deep", "", "/", "tree/"] {
        assert!(dir.remove_tree(name).is_err(), "{name}");
    }
    dir.remove_tree("tree").unwrap();
    assert_eq!(dir.metadata_if_exists("tree").unwrap(), None);
    assert_eq!(dir.read_file("keep/file", 9).unwrap(), b"x");
    symlink("keep", held.path().join("l")).unwrap();
    dir.remove_tree("l").unwrap();
    assert_eq!(dir.read_file("keep/file", 9).unwrap(), b"x");
}

#[test]
fn a_tree_is_not_removed_across_a_bind_mount_of_the_same_filesystem() {
    use nix::mount::{MsFlags, mount};
    let (held, dir) = scratch();
    dir.make_dirs("keep", 0o700).unwrap().write_durable("file", b"x", 0o600).unwrap();
    dir.make_dirs("tree/mounted", 0o700).unwrap();
    // A namespace of this test's thread alone; only root may make one.
    if nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS | nix::sched::CloneFlags::CLONE_NEWNS).is_err() {
        return;
    }
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
    let at = |rel: &str| held.path().join(rel);
    mount(Some(&at("keep")), &at("tree/mounted"), None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
    assert!(cause(Dir::open(held.path()).unwrap().remove_tree("tree")).contains("mounted there"));
    nix::mount::umount(&at("tree/mounted")).unwrap();
    assert_eq!(dir.read_file("keep/file", 9).unwrap(), b"x");
    dir.remove_tree("tree").unwrap();
}

#[test]
fn a_tree_deeper_than_any_data_directory_is_refused() {
    let (_held, dir) = scratch();
    dir.make_dirs("d/".repeat(DEEPEST + 3), 0o700).unwrap();
    assert!(cause(dir.remove_tree("d")).contains("nested too deeply"));
}
