//! `backup_manifest` (manual: "Backup Manifest Format"): what a base backup consists of, and the WAL it needs.
//!
//! A [`Manifest`] comes only from bytes whose own checksum was right. Its paths are relative, without `..`, and each
//! occurs once. Sizes and identifiers keep all 64 bits.

use std::borrow::Cow;
use std::collections::HashSet;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use sha2::{Digest, Sha256};

pub use super::checksum::{Algorithm, Checksum, Hasher};
use super::{Lsn, Malformed, Timeline, decimal};

/// A base backup's manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// 1 (majors 13 to 16) or 2 (from 17).
    pub version: u32,
    /// The cluster's identity, from version 2 on; a decimal string in our JSON.
    #[serde(with = "decimal::optional")]
    pub system_identifier: Option<u64>,
    /// Every file of the backup except WAL and the manifest itself, in its order.
    pub files: Vec<ManifestFile>,
    /// The WAL that makes the backup consistent, in the order of replay: several where a standby changed its timeline meanwhile.
    pub wal_ranges: Vec<WalRange>,
}

/// One file of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestFile {
    /// Path below the data directory; bytes, for it need not be UTF-8.
    pub path: Vec<u8>,
    /// Length in bytes.
    pub size: u64,
    /// Absent in a manifest made with `--manifest-checksums=NONE`.
    pub checksum: Option<Checksum>,
}

/// WAL of one timeline that the backup needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalRange {
    /// Timeline of the range.
    pub timeline: Timeline,
    /// First byte needed; in the first range the redo LSN.
    pub start: Lsn,
    /// LSN after the last byte needed.
    pub end: Lsn,
}

impl Manifest {
    /// Parses a manifest; its checksum is verified first, over the original bytes.
    pub fn parse(bytes: &[u8]) -> Result<Manifest, Malformed> {
        verify_checksum(bytes)?;
        // Content may be named from here on: only a manifest carries its own SHA-256.
        let document: Document = serde_json::from_slice(bytes).map_err(|e| Malformed::new(e.to_string()))?;
        if !(1..=2).contains(&document.version) {
            return Err(Malformed::new(format!("manifest version {} is unknown (1 and 2 are known)", document.version)));
        }
        let files: Vec<ManifestFile> = document.files.into_iter().map(|entry| entry.0).collect();
        refuse_duplicates(&files)?;
        let mut wal_ranges = document.wal_ranges.into_iter().map(RawRange::checked).collect::<Result<Vec<_>, _>>()?;
        // The server writes the newest timeline first (AddWALInfoToBackupManifest in backup_manifest.c).
        wal_ranges.sort_by_key(|range| (range.start, range.end));
        Ok(Manifest { version: document.version, system_identifier: document.system_identifier, files, wal_ranges })
    }
}

/// Whether `pg_verifybackup` leaves this path alone: the manifest itself, WAL, and what `pg_basebackup -R` edits.
pub fn is_exempt(path: &[u8]) -> bool {
    const EXEMPT: [&[u8]; 5] = [b"backup_manifest", b"pg_wal", b"postgresql.auto.conf", b"recovery.signal", b"standby.signal"];
    let beneath = |parent: &[u8]| path.strip_prefix(parent).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"));
    EXEMPT.into_iter().any(beneath)
}

/// The last line carries the SHA-256 of everything before it.
fn verify_checksum(bytes: &[u8]) -> Result<(), Malformed> {
    let text = bytes.strip_suffix(b"\n").ok_or_else(|| Malformed::new("the manifest is cut off: no newline at its end"))?;
    let last = text.iter().rposition(|b| *b == b'\n').map_or(0, |newline| newline + 1);
    let (covered, last) = text.split_at_checked(last).unwrap_or_default();
    let digits = last.strip_prefix(b"\"Manifest-Checksum\": \"").and_then(|rest| rest.strip_suffix(b"\"}"));
    let digits = digits.ok_or_else(|| Malformed::new("the manifest does not end with its checksum: it is cut off or not a manifest"))?;
    let said = hex::decode(digits).map_err(|_| Malformed::new("the manifest's checksum is not hexadecimal"))?;
    if Sha256::digest(covered).as_slice() == said.as_slice() {
        Ok(())
    } else {
        Err(Malformed::new("the manifest's own checksum is wrong: it was changed or damaged"))
    }
}

fn refuse_duplicates(files: &[ManifestFile]) -> Result<(), Malformed> {
    let mut seen = HashSet::with_capacity(files.len());
    match files.iter().find(|file| !seen.insert(file.path.as_slice())) {
        Some(file) => Err(Malformed::new(format!("the manifest lists {} twice", file.path.escape_ascii()))),
        None => Ok(()),
    }
}

/// The file's own keys. Each file is checked while it is read, so that only the result grows.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(rename = "PostgreSQL-Backup-Manifest-Version")]
    version: u32,
    #[serde(rename = "System-Identifier", default)]
    system_identifier: Option<u64>,
    #[serde(rename = "Files")]
    files: Vec<Entry>,
    #[serde(rename = "WAL-Ranges", default)]
    wal_ranges: Vec<RawRange>,
    #[serde(rename = "Manifest-Checksum")]
    _checksum: serde::de::IgnoredAny,
}

struct Entry(ManifestFile);

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Entry, D::Error> {
        RawFile::deserialize(deserializer)?.checked().map(Entry).map_err(D::Error::custom)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile<'a> {
    #[serde(rename = "Path", borrow, default)]
    path: Option<Cow<'a, str>>,
    #[serde(rename = "Encoded-Path", borrow, default)]
    encoded_path: Option<Cow<'a, str>>,
    #[serde(rename = "Size")]
    size: u64,
    #[serde(rename = "Last-Modified", default)]
    _last_modified: Option<serde::de::IgnoredAny>,
    #[serde(rename = "Checksum-Algorithm", borrow, default)]
    algorithm: Option<Cow<'a, str>>,
    #[serde(rename = "Checksum", borrow, default)]
    checksum: Option<Cow<'a, str>>,
}

impl RawFile<'_> {
    fn checked(self) -> Result<ManifestFile, Malformed> {
        let path = match (self.path, self.encoded_path) {
            (Some(path), None) => path.into_owned().into_bytes(),
            (None, Some(encoded)) => hex::decode(encoded.as_bytes()).map_err(|_| Malformed::new("an Encoded-Path is not hexadecimal"))?,
            _ => return Err(Malformed::new("a file needs either Path or Encoded-Path")),
        };
        check_path(&path)?;
        let checksum = match (self.algorithm.as_deref(), self.checksum.as_deref()) {
            (None, None) => None,
            (Some(algorithm), Some(digits)) => Some(Checksum::parse(algorithm, digits)?),
            _ => return Err(Malformed::new(format!("{}: Checksum and Checksum-Algorithm come together", path.escape_ascii()))),
        };
        Ok(ManifestFile { path, size: self.size, checksum })
    }
}

/// A path is a way to write outside of the data directory, unless each component is an ordinary name.
fn check_path(path: &[u8]) -> Result<(), Malformed> {
    let ordinary = |name: &[u8]| !matches!(name, b"" | b"." | b"..") && !name.contains(&0);
    if path.split(|b| *b == b'/').all(ordinary) {
        Ok(())
    } else {
        Err(Malformed::new(format!("not a path below the data directory: \"{}\"", path.escape_ascii())))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRange {
    #[serde(rename = "Timeline")]
    timeline: Timeline,
    #[serde(rename = "Start-LSN")]
    start: Lsn,
    #[serde(rename = "End-LSN")]
    end: Lsn,
}

impl RawRange {
    fn checked(self) -> Result<WalRange, Malformed> {
        let RawRange { timeline, start, end } = self;
        if timeline.0 == 0 || start > end {
            return Err(Malformed::new(format!("not a range of WAL: timeline {timeline} from {start} to {end}")));
        }
        Ok(WalRange { timeline, start, end })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &[u8] = include_bytes!("../../tests/fixtures/pg/backup_manifest");
    const ENCODED: &[u8] = include_bytes!("../../tests/fixtures/pg/backup_manifest.enc");
    const PLAIN: &[u8] = include_bytes!("../../tests/fixtures/pg/backup_manifest.none");
    const LABEL: &[u8] = include_bytes!("../../tests/fixtures/pg/backup_label");
    const MAP: &[u8] = include_bytes!("../../tests/fixtures/pg/tablespace_map");

    /// A manifest of version 1 with these lines in `Files`, and its right checksum.
    fn sealed(files: &str) -> Vec<u8> {
        seal(&format!(
            "{{ \"PostgreSQL-Backup-Manifest-Version\": 1,\n\"Files\": [\n{files}\n],\n\"WAL-Ranges\": [\n{{ \"Timeline\": 1, \"Start-LSN\": \"0/2000028\", \"End-LSN\": \"0/2000100\" }}\n],\n"
        ))
    }

    fn seal(body: &str) -> Vec<u8> {
        let digest = hex::encode(Sha256::digest(body.as_bytes()));
        format!("{body}\"Manifest-Checksum\": \"{digest}\"}}\n").into_bytes()
    }

    fn file(path: &str) -> String {
        format!("{{ \"Path\": {}, \"Size\": 3, \"Last-Modified\": \"2026-11-21 23:03:32 GMT\" }}", serde_json::to_string(path).unwrap())
    }

    #[test]
    fn reads_a_real_one_and_its_checksums_fit() {
        let manifest = Manifest::parse(FILE).unwrap();
        assert_eq!((manifest.version, manifest.system_identifier), (1, None));
        assert_eq!(manifest.wal_ranges, [WalRange { timeline: Timeline(1), start: Lsn(0x2000028), end: Lsn(0x2000100) }]);
        assert_eq!(manifest.files.len(), 7);
        for (path, content) in [("backup_label", LABEL), ("tablespace_map", MAP), ("PG_VERSION", b"15\n")] {
            let listed = manifest.files.iter().find(|f| f.path == path.as_bytes()).unwrap();
            let checksum = listed.checksum.as_ref().unwrap();
            let mut hasher = Hasher::new(checksum.algorithm);
            hasher.update(content);
            assert_eq!((listed.size, &checksum.bytes), (content.len() as u64, &hasher.finish()), "{path}");
        }
    }

    #[test]
    fn every_algorithm_agrees_with_pg_basebackup() {
        for (algorithm, bytes) in [
            (Algorithm::Crc32c, FILE),
            (Algorithm::Sha224, include_bytes!("../../tests/fixtures/pg/backup_manifest.sha224")),
            (Algorithm::Sha256, include_bytes!("../../tests/fixtures/pg/backup_manifest.sha256")),
            (Algorithm::Sha384, include_bytes!("../../tests/fixtures/pg/backup_manifest.sha384")),
            (Algorithm::Sha512, include_bytes!("../../tests/fixtures/pg/backup_manifest.sha512")),
        ] {
            let manifest = Manifest::parse(bytes).unwrap();
            let version = manifest.files.iter().find(|f| f.path.ends_with(b"PG_VERSION")).unwrap();
            let mut hasher = Hasher::new(algorithm);
            hasher.update(b"1");
            hasher.update(b"5\n");
            assert_eq!(version.checksum, Some(Checksum { algorithm, bytes: hasher.finish() }));
        }
    }

    #[test]
    fn encoded_paths_and_missing_checksums() {
        let encoded = Manifest::parse(ENCODED).unwrap();
        assert_eq!(encoded.files[1].path, b"base/5/PG_VERSION");
        assert!(Manifest::parse(PLAIN).unwrap().files.iter().all(|f| f.checksum.is_none()));
        let bytes = sealed("{ \"Encoded-Path\": \"61ff\", \"Size\": 0 }");
        assert_eq!(Manifest::parse(&bytes).unwrap().files[0].path, b"a\xFF");
    }

    /// As PostgreSQL 15 wrote it for a standby whose primary was replaced during the backup.
    #[test]
    fn ranges_of_two_timelines_are_in_the_order_of_replay() {
        let both = "{ \"Timeline\": 2, \"Start-LSN\": \"0/E15AB0\", \"End-LSN\": \"0/E16C18\" },\n{ \"Timeline\": 1, \"Start-LSN\": \"0/D00028\", \"End-LSN\": \"0/E15AB0\" }";
        let body =
            format!("{{ \"PostgreSQL-Backup-Manifest-Version\": 1,\n\"Files\": [\n{}\n],\n\"WAL-Ranges\": [\n{both}\n],\n", file("a"));
        let ranges = Manifest::parse(&seal(&body)).unwrap().wal_ranges;
        let [first, last] = ranges.as_slice() else { panic!("{ranges:?}") };
        assert_eq!((first.timeline, first.start, last.timeline, last.end), (Timeline(1), Lsn(0xD00028), Timeline(2), Lsn(0xE16C18)));
    }

    #[test]
    fn version_two_keeps_every_digit() {
        let body = "{ \"PostgreSQL-Backup-Manifest-Version\": 2,\n\"System-Identifier\": 18446744073709551615,\n\"Files\": [\n{ \"Path\": \"a\", \"Size\": 9007199254740993 }],\n\"WAL-Ranges\": [],\n";
        let manifest = Manifest::parse(&seal(body)).unwrap();
        assert_eq!((manifest.version, manifest.system_identifier), (2, Some(u64::MAX)));
        assert_eq!(manifest.files[0].size, 9007199254740993);
        let json = serde_json::to_value(&manifest).unwrap();
        assert_eq!(json["system_identifier"], "18446744073709551615");
        assert_eq!(serde_json::from_value::<Manifest>(json).unwrap(), manifest);
        assert!(Manifest::parse(&seal(&body.replace("Version\": 2", "Version\": 3"))).unwrap_err().0.contains("version 3"));
    }

    #[test]
    fn paths_that_lead_elsewhere_are_refused() {
        for path in ["", "/etc/passwd", "../x", "a/../b", "a//b", "a/", "./a", "a/.", "..", "a\0b"] {
            let error = Manifest::parse(&sealed(&file(path))).unwrap_err();
            assert!(error.0.contains("not a path below"), "{path:?}: {error}");
        }
        for path in ["a", "a..b/..c", "pg_tblspc/16384/PG_15_202209061/5/16385"] {
            assert!(Manifest::parse(&sealed(&file(path))).is_ok(), "{path:?}");
        }
        let twice = Manifest::parse(&sealed(&[file("a"), file("b"), file("a")].join(",\n"))).unwrap_err();
        assert!(twice.0.contains("lists a twice"));
    }

    #[test]
    fn what_is_not_a_manifest_entry_is_refused() {
        for entry in [
            "{ \"Path\": \"a\", \"Encoded-Path\": \"61\", \"Size\": 1 }",
            "{ \"Size\": 1 }",
            "{ \"Path\": \"a\" }",
            "{ \"Path\": \"a\", \"Size\": -1 }",
            "{ \"Path\": \"a\", \"Size\": 1.0 }",
            "{ \"Path\": \"a\", \"Size\": 18446744073709551616 }",
            "{ \"Path\": \"a\", \"Size\": 1, \"Size\": 2 }",
            "{ \"Path\": \"a\", \"Size\": 1, \"Mode\": 2 }",
            "{ \"Path\": \"a\", \"Size\": 1, \"Checksum\": \"00\" }",
            "{ \"Path\": \"a\", \"Size\": 1, \"Checksum-Algorithm\": \"CRC32C\", \"Checksum\": \"00\" }",
            "{ \"Path\": \"a\", \"Size\": 1, \"Checksum-Algorithm\": \"MD5\", \"Checksum\": \"00000000\" }",
            "{ \"Encoded-Path\": \"6\", \"Size\": 1 }",
            "[]",
        ] {
            assert!(Manifest::parse(&sealed(entry)).is_err(), "{entry}");
        }
        let range = String::from_utf8(sealed(&file("a"))).unwrap();
        let body = range.rsplit_once("\"Manifest-Checksum").unwrap().0;
        assert!(Manifest::parse(&seal(&body.replace("\"0/2000100\"", "\"0/100\""))).unwrap_err().0.contains("not a range"));
    }

    #[test]
    fn every_flip_and_every_truncation_is_refused() {
        for at in 0..FILE.len() {
            assert!(Manifest::parse(&FILE[..at]).is_err(), "cut at {at}");
            for bit in 0..8 {
                let mut bytes = FILE.to_vec();
                bytes[at] ^= 1 << bit;
                // The checksum's own letters mean the same in either case.
                let same = bytes.eq_ignore_ascii_case(FILE) && at >= FILE.len() - 67;
                assert!(same || Manifest::parse(&bytes).is_err(), "flip at {at}");
            }
        }
    }

    #[test]
    fn deep_nesting_is_an_error() {
        assert!(Manifest::parse(&sealed(&"[".repeat(200_000))).is_err());
    }

    #[test]
    fn exempt_paths_are_those_of_pg_verifybackup() {
        for path in ["backup_manifest", "pg_wal", "pg_wal/000000010000000000000001", "postgresql.auto.conf", "standby.signal"] {
            assert!(is_exempt(path.as_bytes()), "{path}");
        }
        for path in ["pg_walx", "base/pg_wal", "postgresql.conf", "backup_label", ""] {
            assert!(!is_exempt(path.as_bytes()), "{path}");
        }
    }
}
