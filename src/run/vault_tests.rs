use std::fs;
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, chown, symlink};

use super::*;
use crate::host::Owner;
use crate::store::index::Entry;

const SEGMENT: &str = "000000010000000000000001";

/// A root-owned tree as an administrator makes one; these tests need root like the others that hold real files.
struct Ground {
    held: tempfile::TempDir,
}

impl Ground {
    fn new() -> Ground {
        let held = tempfile::tempdir_in("/var/tmp").unwrap();
        for name in ["wal", "backups", "backups/tars", "other"] {
            fs::create_dir(held.path().join(name)).unwrap();
            fs::set_permissions(held.path().join(name), fs::Permissions::from_mode(0o700)).unwrap();
        }
        let ground = Ground { held };
        for name in [
            format!("wal/{SEGMENT}"),
            format!("wal/{SEGMENT}.gz"),
            "wal/00000002.history.zst".into(),
            "wal/secret".into(),
            format!("other/{SEGMENT}"),
            "backups/base.tar.gz".into(),
            "backups/shadow".into(),
            "backups/tars/base.tar".into(),
            "backups/tars/backup_manifest".into(),
        ] {
            fs::write(ground.at(&name), name.as_bytes()).unwrap();
        }
        ground
    }

    fn at(&self, rel: &str) -> PathBuf {
        self.held.path().join(rel)
    }

    fn vault(&self) -> Vault {
        Vault::of(&Trusted { wal: vec![self.at("wal"), self.at("missing")], backups: vec![self.at("backups")] })
    }

    fn read(&self, rel: &str) -> std::result::Result<String, String> {
        let mut text = String::new();
        self.vault().file(&self.at(rel)).map_err(|e| e.to_string())?.read_to_string(&mut text).unwrap();
        Ok(text)
    }
}

#[test]
fn wal_and_archives_of_backups_are_handed_out() {
    let ground = Ground::new();
    for name in [
        &format!("wal/{SEGMENT}"),
        "wal/00000002.history.zst",
        "backups/base.tar.gz",
        "backups/tars/base.tar",
        "backups/tars/backup_manifest",
    ] {
        assert_eq!(ground.read(name).as_deref(), Ok(name));
    }
    let names = |rel: &str| ground.vault().list(&ground.at(rel)).unwrap().into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(names("wal"), [SEGMENT.to_string(), format!("{SEGMENT}.gz"), "00000002.history.zst".into()]);
    assert_eq!(names("backups"), ["base.tar.gz", "tars"], "other names are not even told");
}

/// What `pg_basebackup -Fp` wrote as root: everything in it, by any name, and nothing beside it.
#[test]
fn a_data_directory_among_the_backups_is_handed_out_whole() {
    let ground = Ground::new();
    let fill = |top: &str| {
        for dir in ["", "global", "base", "base/5", "pg_tblspc"] {
            fs::create_dir_all(ground.at(top).join(dir)).unwrap();
        }
        for name in ["PG_VERSION", "base/5/1259", "server.key"] {
            fs::write(ground.at(top).join(name), "content").unwrap();
        }
        let _ = symlink("/srv/space", ground.at(top).join("pg_tblspc/16384"));
    };
    fill("backups/plain");
    let reads = |name: &str| ground.read(name).is_ok();
    assert!(reads("backups/plain/base/5/1259") && reads("backups/plain/server.key") && reads("backups/plain/PG_VERSION"));
    let names = |rel: &str| ground.vault().list(&ground.at(rel)).unwrap().into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(names("backups/plain"), ["PG_VERSION", "base", "global", "pg_tblspc", "server.key"]);
    assert_eq!(ground.vault().link(&ground.at("backups/plain/pg_tblspc/16384")).unwrap(), Path::new("/srv/space"));
    // Links, second names, fifos: as everywhere.
    symlink("/etc/shadow", ground.at("backups/plain/base/5/1")).unwrap();
    symlink("/etc", ground.at("backups/plain/etc")).unwrap();
    fs::hard_link(ground.at("wal/secret"), ground.at("backups/plain/base/5/2")).unwrap();
    rustix::fs::mkfifoat(CWD, ground.at("backups/plain/base/5/3"), Mode::RUSR).unwrap();
    for name in ["base/5/1", "etc/shadow", "base/5/2", "base/5/3", "../shadow", "base", "missing"] {
        assert!(!reads(&format!("backups/plain/{name}")), "{name}");
    }
    assert!(ground.vault().directory(&ground.at("backups/plain/etc")).is_err() && ground.vault().link(&ground.at("wal/secret")).is_err());
    // One that others can write into is none, nor is one deeper, or what only looks like one by half.
    fill("backups/tars/deeper");
    fs::create_dir_all(ground.at("backups/half/global")).unwrap();
    fs::write(ground.at("backups/half/file"), "content").unwrap();
    assert!(!reads("backups/tars/deeper/PG_VERSION") && !reads("backups/half/file"));
    fs::set_permissions(ground.at("backups/plain/base"), fs::Permissions::from_mode(0o777)).unwrap();
    assert!(!reads("backups/plain/base/5/1259") && reads("backups/plain/server.key"));
    chown(ground.at("backups/plain"), Some(54_321), None).unwrap();
    assert!(!reads("backups/plain/server.key") && ground.vault().list(&ground.at("backups/plain")).is_err());
}

#[test]
fn nothing_else_is() {
    let ground = Ground::new();
    let segment = ground.at(&format!("wal/{SEGMENT}"));
    symlink("/etc/shadow", ground.at("wal/000000010000000000000002")).unwrap();
    symlink(&segment, ground.at("wal/000000010000000000000003")).unwrap();
    fs::hard_link(ground.at("wal/secret"), ground.at("wal/000000010000000000000004")).unwrap();
    rustix::fs::mkfifoat(CWD, ground.at("wal/000000010000000000000005"), Mode::RUSR).unwrap();
    fs::create_dir(ground.at("wal/000000010000000000000006")).unwrap();
    symlink(ground.at("other"), ground.at("backups/linked")).unwrap();
    for name in [
        "wal/secret",
        "wal/000000010000000000000002",
        "wal/000000010000000000000003",
        "wal/000000010000000000000004",
        "wal/000000010000000000000005",
        "wal/000000010000000000000006",
        "other/000000010000000000000001",
        "wal/../other/000000010000000000000001",
        "wal/./000000010000000000000001/../../other/000000010000000000000001",
        "backups/shadow",
        "backups/linked/base.tar",
        "backups/tars/../../other/base.tar",
        "backups/tars/deeper/base.tar",
        "missing/000000010000000000000001",
    ] {
        assert!(ground.read(name).is_err(), "{name}");
    }
    assert!(ground.vault().file(Path::new("/etc/shadow")).is_err() && ground.vault().directory(Path::new("/etc")).is_err());
    assert!(ground.vault().directory(&ground.at("other")).is_err() && ground.vault().list(&ground.at("other")).is_err());
    assert!(ground.vault().directory(&ground.at("backups/linked")).is_err());
    // A handle opens nothing by itself.
    let handle = ground.vault().directory(&ground.at("wal")).unwrap();
    assert!(rustix::fs::Dir::new(handle).unwrap().next().unwrap().is_err());
}

#[test]
fn a_place_that_others_can_change_is_none() {
    let ground = Ground::new();
    let name = format!("wal/{SEGMENT}");
    assert!(ground.read(&name).is_ok());
    for mode in [0o770, 0o702, 0o1777] {
        fs::set_permissions(ground.at("wal"), fs::Permissions::from_mode(mode)).unwrap();
        assert!(ground.read(&name).unwrap_err().contains("others than root"), "{mode:o}");
        assert!(ground.vault().list(&ground.at("wal")).is_err());
    }
    fs::set_permissions(ground.at("wal"), fs::Permissions::from_mode(0o700)).unwrap();
    chown(ground.at("wal"), Some(65_534), None).unwrap();
    assert!(ground.read(&name).is_err());
    chown(ground.at("wal"), Some(0), None).unwrap();
    // A directory above it counts as much.
    chown(ground.held.path(), Some(65_534), None).unwrap();
    assert!(ground.read(&name).is_err());
    chown(ground.held.path(), Some(0), None).unwrap();
    assert!(ground.read(&name).is_ok());
}

#[test]
fn a_named_link_leads_to_the_real_place() {
    let ground = Ground::new();
    symlink(ground.at("wal"), ground.at("archive")).unwrap();
    let vault = Vault::of(&Trusted { wal: vec![ground.at("archive")], backups: vec![] });
    let Reply::Real { path, file } = vault.real(&ground.at("archive")).unwrap() else { panic!() };
    assert_eq!((path.as_path(), file), (ground.at("wal").as_path(), false));
    assert!(vault.file(&path.join(SEGMENT)).is_ok());
    assert!(vault.file(&ground.at("archive").join(SEGMENT)).is_ok() && vault.list(&ground.at("archive")).is_ok());
    assert!(vault.file(&ground.at("archive/../archive").join(SEGMENT)).is_err(), "only by the names that the configuration gives it");
}

/// The configured name leads through what the owner can change: wherever it points, it is none.
#[test]
fn a_link_that_others_can_place_leads_nowhere() {
    let ground = Ground::new();
    let segment = |place: &Path| {
        let vault = Vault::of(&Trusted { wal: vec![place.to_path_buf()], backups: vec![] });
        let seen = vault.file(&place.join(SEGMENT)).is_ok() || vault.file(&ground.at("wal").join(SEGMENT)).is_ok();
        assert_eq!(seen, !vault.is_empty(), "{}", place.display());
        seen
    };
    // A link of root's in a directory of root's is good; the owner's is not, wherever it stands.
    let link = ground.at("link");
    symlink(ground.at("wal"), &link).unwrap();
    assert!(segment(&link));
    rustix::fs::chownat(CWD, &link, Some(rustix::fs::Uid::from_raw(65_534)), None, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).unwrap();
    assert!(!segment(&link));
    // One of root's is not, where the owner could have put it.
    let theirs = ground.at("theirs");
    fs::create_dir(&theirs).unwrap();
    symlink(ground.at("wal"), theirs.join("link")).unwrap();
    symlink(ground.held.path(), theirs.join("up")).unwrap();
    symlink(theirs.join("link"), ground.at("through")).unwrap();
    for name in ["theirs/link", "theirs/up/wal", "through", "theirs/../wal"] {
        assert!(segment(&ground.at(name)), "{name}");
    }
    chown(&theirs, Some(65_534), None).unwrap();
    for name in ["theirs/link", "theirs/up/wal", "through", "theirs/../wal"] {
        assert!(!segment(&ground.at(name)), "{name}");
    }
    chown(&theirs, Some(0), None).unwrap();
    fs::set_permissions(&theirs, fs::Permissions::from_mode(0o1777)).unwrap();
    assert!(!segment(&theirs.join("link")) && !segment(&ground.at("through")));
}

/// Of the index a child gets files in it, by a path that leads nowhere else.
#[test]
fn entries_of_the_index_are_handed_out_and_nothing_beside_them() {
    let ground = Ground::new();
    let owner = Owner::lookup(nix::unistd::User::from_name("postgres").unwrap().unwrap().uid.as_raw()).unwrap();
    let index = Index::open(&ground.at("state"), &owner).unwrap();
    index.keep(Entry::Summary, Path::new("/wal"), SEGMENT, b"kept").unwrap();
    let room = ground.at(&format!("state/index/{}", owner.uid));
    let named = fs::read_dir(&room).unwrap().flatten().next().unwrap().file_name();
    fs::write(ground.at("state/index/secret"), b"secret").unwrap();
    symlink(ground.at("state/index/secret"), room.join(&named).join("link")).unwrap();
    let ask = |vault: &Vault, path: &Path| {
        let (reply, file) = vault.answer(&Ask::Kept { path: path.to_path_buf() });
        let mut text = String::new();
        let opened = file.is_some();
        if let Some(file) = file {
            File::from(file).read_to_string(&mut text).unwrap();
        }
        assert_eq!(opened, reply == Reply::Passed);
        opened.then_some(text)
    };
    let vault = ground.vault().with_index(Some(index));
    assert_eq!(ask(&vault, &Path::new(&named).join(SEGMENT)).as_deref(), Some("kept"));
    let absolute = room.join(&named).join(SEGMENT);
    for path in [Path::new("../secret"), &Path::new(&named).join("link"), &absolute, Path::new(&named), &Path::new(&named).join("none")] {
        assert_eq!(ask(&vault, path), None, "{}", path.display());
    }
    assert_eq!(ask(&ground.vault(), &Path::new(&named).join(SEGMENT)), None, "of no index");
}
