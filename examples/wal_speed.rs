//! How fast WAL is read, to compare with `time pg_waldump --quiet`: `wal_speed DIRECTORY FIRST-SEGMENT`.
//!
//! Prints records per resource manager and where reading ended.

use std::path::PathBuf;
use std::time::Instant;

use pitr::error::{At, Error, Result};
use pitr::pg::{History, SegmentName, SegmentSize};
use pitr::wal::{Rmgr, SegmentSource, Walk};

struct Directory(PathBuf, SegmentSize);

impl SegmentSource for Directory {
    type Bytes = Vec<u8>;

    fn segment(&mut self, name: SegmentName) -> Result<Option<Vec<u8>>> {
        let path = self.0.join(name.file_name(self.1));
        if !path.exists() {
            return Ok(None);
        }
        std::fs::read(&path).at("read", &path).map(Some)
    }
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(directory), Some(first)) = (arguments.next(), arguments.next()) else {
        return Err(Error::usage("two arguments: directory and first segment"));
    };
    let directory = PathBuf::from(directory);
    let bytes = std::fs::metadata(directory.join(&first)).at("stat", &first)?.len();
    let size = SegmentSize::new(bytes as u32).map_err(|e| Error::usage(e.to_string()))?;
    let name = SegmentName::parse(&first, size).ok_or_else(|| Error::usage("not a segment name"))?;
    let mut walk = Walk::from_segment(Directory(directory, size), size, History::root(name.timeline), None, name.number);
    let begin = Instant::now();
    let mut counts = [0u64; 256];
    while let Some(record) = walk.next()? {
        if let Some(count) = counts.get_mut(usize::from(record.header.rmgr.0)) {
            *count += 1;
        }
    }
    for (id, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        println!("{:20} {count}", Rmgr(id as u8).to_string());
    }
    println!("{:?} in {:.3} s", walk.end(), begin.elapsed().as_secs_f64());
    Ok(())
}
