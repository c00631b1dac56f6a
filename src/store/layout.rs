//! Which files of a data directory a recovery takes from a backup, and where in an archive the data directory lies. Pure.
//!
//! Sources: `basebackup.c` (`excludeDirContents`, `excludeFiles`), the manual's "Making a Base Backup Using the Low Level API".

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use super::codec::Compression;

/// What happens to a regular file of a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Treatment {
    /// Written to staging.
    Keep,
    /// Belongs to the server that ran when the backup was taken: left out, but still compared with the manifest.
    Drop,
    /// A WAL segment or history file directly in `pg_wal`: evidence for recovery's chain, never put into `pg_wal` unseen.
    Wal,
}

/// Directories whose content means nothing to another run of the server, or would harm it (old slots pin WAL, old notifications and
/// snapshots are of dead processes).
const EMPTIED: [&str; 7] = ["pg_dynshmem", "pg_notify", "pg_replslot", "pg_serial", "pg_snapshots", "pg_stat_tmp", "pg_subtrans"];

/// Files directly in the data directory that are left out.
const DROPPED: [&str; 10] = [
    "postmaster.pid",
    "postmaster.opts",
    "recovery.signal",
    "standby.signal",
    "recovery.conf",
    "postgresql.auto.conf.tmp",
    "current_logfiles",
    "current_logfiles.tmp",
    "backup_manifest",
    "postgresql.conf.tmp",
];

/// Directories that PostgreSQL 13 to 18 want to find, whether or not the backup has them.
const REQUIRED: [&str; 22] = [
    "base",
    "global",
    "pg_commit_ts",
    "pg_dynshmem",
    "pg_logical",
    "pg_logical/mappings",
    "pg_logical/snapshots",
    "pg_multixact",
    "pg_multixact/members",
    "pg_multixact/offsets",
    "pg_notify",
    "pg_replslot",
    "pg_serial",
    "pg_snapshots",
    "pg_stat",
    "pg_stat_tmp",
    "pg_subtrans",
    "pg_tblspc",
    "pg_twophase",
    "pg_wal",
    "pg_wal/archive_status",
    "pg_xact",
];

/// The directories a data directory of `major` must have.
pub fn required_directories(major: u32) -> impl Iterator<Item = &'static str> {
    // The WAL summarizer's files exist since 17.
    REQUIRED.into_iter().chain((major >= 17).then_some("pg_wal/summaries"))
}

/// What to do with the regular file at `rel`, a path below the data directory as [`clean`] gives it.
pub fn treatment(rel: &Path) -> Treatment {
    let parts: Vec<&[u8]> = rel.iter().map(OsStr::as_bytes).collect();
    let is = |name: &[u8], list: &[&str]| list.iter().any(|entry| entry.as_bytes() == name);
    match parts.as_slice() {
        [] => Treatment::Drop,
        [name] if is(name, &DROPPED) || is_run_marker(name) => Treatment::Drop,
        [first, _, ..] if is(first, &EMPTIED) => Treatment::Drop,
        [b"pg_wal", name] if is_wal_file(name) => Treatment::Wal,
        [b"pg_wal", ..] => Treatment::Drop,
        parts if parts.iter().any(|part| part.starts_with(b"pgsql_tmp")) => Treatment::Drop,
        [.., last] if last.starts_with(b"pg_internal.init") => Treatment::Drop,
        _ => Treatment::Keep,
    }
}

/// Whether the directory at `rel` is made: not the insides of what is emptied.
pub fn keeps_directory(rel: &Path) -> bool {
    rel.as_os_str().is_empty()
        || rel.starts_with("pg_wal/archive_status")
        || treatment(rel) == Treatment::Keep
        || rel == Path::new("pg_wal")
}

/// A marker file by which a run recognises its own directories; one in a backup is of an earlier run.
fn is_run_marker(name: &[u8]) -> bool {
    name.starts_with(b"pitr-") && name.ends_with(b".run")
}

/// Segments, partial segments, timeline histories and backup histories by the shape of their names; the segment size is not known
/// here, so the numbers are not judged.
pub fn is_wal_file(name: &[u8]) -> bool {
    let hex = |part: &[u8]| part.iter().all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(b));
    match name.strip_suffix(b".history") {
        Some(timeline) => timeline.len() == 8 && hex(timeline),
        None => match name.split_at_checked(24) {
            Some((segment, rest)) => {
                hex(segment) && (rest.is_empty() || rest == b".partial" || (rest.ends_with(b".backup") && rest.len() == 16))
            }
            None => false,
        },
    }
}

/// Whether a file of this name in an archive is WAL, whatever it is compressed with: `pg_receivewal` calls the segment that
/// it still writes `SEG.gz.partial`, an archive command that compresses makes `SEG.partial.gz` of what a promotion left.
pub fn is_archived_wal_file(name: &str) -> bool {
    let stem = if is_partial(name) { name.strip_suffix(".partial").unwrap_or(name) } else { name };
    is_wal_file(Compression::of_name(stem).1.as_bytes())
}

/// Whether the name is that of a segment of which not all may be there.
pub fn is_partial(name: &str) -> bool {
    name.get(24..).is_some_and(|rest| rest.split('.').any(|word| word == "partial"))
}

/// A member's path made relative and free of `.`; the reason where it could lead out of the directory it is extracted to.
pub fn clean(path: &[u8]) -> Result<PathBuf, &'static str> {
    if path.contains(&0) {
        return Err("its name contains a zero byte");
    }
    let mut clean = PathBuf::new();
    for component in Path::new(OsStr::from_bytes(path)).components() {
        match component {
            Component::Normal(part) => clean.push(part),
            Component::CurDir => {}
            Component::ParentDir => return Err("its name contains .."),
            Component::RootDir | Component::Prefix(_) => return Err("its name is absolute"),
        }
    }
    Ok(clean)
}

/// Names that exist only directly in a data directory.
const TELLING: [&str; 17] = [
    "PG_VERSION",
    "pg_commit_ts",
    "pg_dynshmem",
    "pg_logical",
    "pg_multixact",
    "pg_notify",
    "pg_replslot",
    "pg_serial",
    "pg_snapshots",
    "pg_stat",
    "pg_stat_tmp",
    "pg_subtrans",
    "pg_tblspc",
    "pg_twophase",
    "pg_xact",
    "postgresql.auto.conf",
    "postmaster.pid",
];

/// The leading directory of an archive (`main`, `var/lib/postgresql/15/main`, or nothing) as far as this member gives it away.
/// Every database directory has a `PG_VERSION` too, so the first telling name from the left decides.
pub fn root_of(member: &Path) -> Option<PathBuf> {
    let mut root = PathBuf::new();
    let mut parts = member.iter().peekable();
    while let Some(part) = parts.next() {
        let next = parts.peek().map_or(&[][..], |p| p.as_bytes());
        let telling = match part.as_bytes() {
            b"base" => !next.is_empty() && next.iter().all(u8::is_ascii_digit),
            b"global" => next.first().is_some_and(u8::is_ascii_digit) || next == b"pg_control" || next == b"pg_filenode.map",
            name => TELLING.iter().any(|t| t.as_bytes() == name),
        };
        if telling {
            return Some(root);
        }
        // A tablespace outside: its databases have a PG_VERSION, but they are no data directory.
        if part.as_bytes().starts_with(b"PG_") {
            return None;
        }
        root.push(part);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_leading_directory_is_recognised() {
        for (member, root) in [
            ("PG_VERSION", Some("")),
            ("main/PG_VERSION", Some("main")),
            ("var/lib/postgresql/15/main/base/1/PG_VERSION", Some("var/lib/postgresql/15/main")),
            ("base/base/1/1259", Some("base")),
            ("base/1/1259", Some("")),
            ("base", None),
            ("base-20260426/global/pg_control", Some("base-20260426")),
            ("global/lib/x", None),
            ("data/pg_tblspc/16400/PG_15_202209061/5/PG_VERSION", Some("data")),
            ("mnt/ts/PG_15_202209061/5/PG_VERSION", None),
            ("main/server.key", None),
            ("", None),
        ] {
            assert_eq!(root_of(Path::new(member)), root.map(PathBuf::from), "{member}");
        }
    }

    #[test]
    fn what_belongs_to_the_old_server_is_left_out() {
        for (treated, names) in [
            (
                Treatment::Drop,
                &[
                    "postmaster.pid",
                    "pg_replslot/a/state",
                    "pg_stat_tmp/global.stat",
                    "base/pgsql_tmp/pgsql_tmp1.0",
                    "base/5/pg_internal.init",
                    "global/pg_internal.init.123",
                    "pg_wal/archive_status/000000010000000000000001.done",
                    "pg_wal/xlogtemp.12",
                    "pitr-20260426.run",
                    "standby.signal",
                    "pg_tblspc/16400/PG_15_202209061/pgsql_tmp/pgsql_tmp3.1",
                ][..],
            ),
            (
                Treatment::Keep,
                &[
                    "base/1/1259",
                    "backup_label",
                    "global/pg_control",
                    "pg_stat/x",
                    "pg_logical/replorigin_checkpoint",
                    "conf/recovery.signal",
                    "postgresql.auto.conf",
                ],
            ),
            (
                Treatment::Wal,
                &[
                    "pg_wal/000000010000000000000001",
                    "pg_wal/00000002.history",
                    "pg_wal/000000010000000000000001.partial",
                    "pg_wal/000000010000000000000001.00000028.backup",
                ],
            ),
        ] {
            for name in names {
                assert_eq!(treatment(Path::new(name)), treated, "{name}");
            }
        }
        assert!(keeps_directory(Path::new("pg_replslot")) && !keeps_directory(Path::new("pg_replslot/a")));
        assert!(keeps_directory(Path::new("pg_wal")) && !keeps_directory(Path::new("base/pgsql_tmp")));
    }

    #[test]
    fn partial_segments_are_known_by_each_name_that_they_get() {
        const SEGMENT: &str = "000000010000000000000004";
        for rest in ["", ".gz", ".partial", ".gz.partial", ".lz4.partial", ".partial.gz", ".partial.zst"] {
            let name = format!("{SEGMENT}{rest}");
            assert!(is_archived_wal_file(&name), "{name}");
            assert_eq!(is_partial(&name), rest.contains("partial"), "{name}");
        }
        for name in ["partial", "0000000100000000000000", "000000010000000000000004.tar.partial", "000000010000000000000004.gz.partial.gz"]
        {
            assert!(!is_archived_wal_file(name), "{name}");
        }
        assert!(!is_partial("00000002.history") && !is_partial("äöüäöüäöüäöüäöüäöü"));
    }

    #[test]
    fn paths_that_lead_out_are_refused() {
        assert_eq!(clean(b"./a//b/./c/"), Ok(PathBuf::from("a/b/c")));
        assert_eq!(clean(b"."), Ok(PathBuf::new()));
        for path in [&b"../x"[..], b"a/../../x", b"/etc/passwd", b"a\0b", b".."] {
            assert!(clean(path).is_err());
        }
    }
}
