//! The fixtures, unpacked.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use pitr::error::Result;
use pitr::pg::{History, SegmentName, SegmentSize, Timeline};
use pitr::wal::SegmentSource;

/// Segments by name.
#[derive(Debug, Clone)]
pub struct Memory {
    pub size: SegmentSize,
    pub history: History,
    pub segments: BTreeMap<SegmentName, Vec<u8>>,
}

impl<'a> SegmentSource for &'a Memory {
    type Stream = &'a [u8];

    fn segment(&mut self, name: SegmentName) -> Result<Option<&'a [u8]>> {
        Ok(self.segments.get(&name).map(Vec::as_slice))
    }
}

impl Memory {
    /// The lowest segment's number.
    pub fn first(&self) -> u64 {
        self.segments.keys().map(|name| name.number).min().unwrap()
    }

    /// The fixture of one major.
    pub fn fixture(directory: &Path) -> Memory {
        let size = SegmentSize::new(1 << 20).unwrap();
        let mut segments = BTreeMap::new();
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
            if let Some(name) = SegmentName::parse(&stem, size) {
                segments.insert(name, unpack(&path));
            }
        }
        let history = History::parse(Timeline(2), &std::fs::read(directory.join("00000002.history")).unwrap()).unwrap();
        Memory { size, history, segments }
    }
}

/// The directories of fixtures, with their majors.
pub fn fixtures() -> Vec<(u32, PathBuf)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/wal");
    let entries = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = entries.filter_map(|path| Some((path.file_name()?.to_str()?.parse().ok()?, path))).collect();
    found.sort();
    assert!(!found.is_empty());
    found
}

pub fn unpack(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(std::fs::File::open(path).unwrap()).read_to_end(&mut bytes).unwrap();
    bytes
}
