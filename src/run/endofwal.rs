//! The last valid record of a cluster that crashed, by our own reader.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::error::{At, Error, Result};
use crate::pg::{Lsn, SegmentName};
use crate::plan::chain;
use crate::run::executor::Run;
use crate::run::owner::{self, Task, open_directory};
use crate::run::sources;
use crate::wal::page::Major;
use crate::wal::storage::Storage;
use crate::wal::{Identity, Rmgr, SegmentSource, Walk};
use serde::{Deserialize, Serialize};
use std::io::Read;

/// Where to read and from where on.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WalkRequest {
    /// Directory and file of each segment, in the order of the chain.
    pub segments: Vec<(SegmentName, PathBuf, String)>,
    /// History that is followed.
    pub history: crate::pg::History,
    /// Whose WAL.
    pub identity: crate::run::tail::WalIdentity,
    /// First record.
    pub from: Lsn,
}

/// What was found.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Walked {
    /// Start of the last valid record.
    pub last_record: Option<Lsn>,
    /// Where and why reading ended.
    pub end: Option<crate::wal::EndOfWal>,
    /// Tablespaces that were created on the way: OID and location.
    pub tablespaces: Vec<(u32, String)>,
}

/// The last valid record of the chain, read from the backup's redo point on.
pub fn last_record(run: &mut Run) -> Result<Lsn> {
    let walked = walk_chain(run)?;
    walked.last_record.ok_or_else(|| {
        Error::failed("there is no valid WAL record after the backup's start")
            .cause(walked.end.map(|e| e.reason.to_string()).unwrap_or_default())
    })
}

fn walk_chain(run: &mut Run) -> Result<Walked> {
    let listed = sources::list(run, &sources::serving(run))?;
    let recovery = run.recovery();
    let size = recovery.cluster.segment_size;
    let links = chain::follow(&recovery.target.history, recovery.chain.first.number, None, &listed, size);
    let copies = chain::copies(&listed);
    let segments = links
        .segments
        .iter()
        .filter_map(|n| copies.get(n).and_then(|l| l.first()).map(|c| (*n, c.directory.clone(), c.file.clone())))
        .collect();
    let request = WalkRequest {
        segments,
        history: recovery.target.history.clone(),
        identity: sources::identity(run),
        from: size.start(recovery.chain.first.number),
    };
    run.owner(Task::WalkWal(Box::new(request)))
}

/// Reads every record of the chain, as the owner.
pub fn walk(request: &WalkRequest) -> Result<Walked> {
    let source = Files {
        size: request.identity.segment_size.bytes(),
        files: request.segments.iter().map(|(n, d, f)| (*n, (d.clone(), f.clone()))).collect(),
    };
    let number = request.identity.segment_size.number(request.from);
    let mut walk = Walk::from_segment(
        source,
        request.identity.segment_size,
        request.history.clone(),
        Some(Identity { system_identifier: request.identity.system_identifier, major: Major(request.identity.major) }),
        number,
    );
    let mut tablespaces = Vec::new();
    let mut last_record = None;
    while let Some(record) = walk.next()? {
        last_record = Some(record.lsn);
        // A record of this kind that does not parse was checked by its CRC: it is of a future format.
        if record.header.rmgr == Rmgr::TABLESPACE
            && let Ok(Storage::TablespaceCreated { tablespace, location }) = Storage::parse(&record)
        {
            tablespaces.push((tablespace, location));
        }
    }
    Ok(Walked { last_record, end: walk.end(), tablespaces })
}

struct Files {
    size: u64,
    files: BTreeMap<SegmentName, (PathBuf, String)>,
}

impl SegmentSource for Files {
    type Bytes = Vec<u8>;

    fn segment(&mut self, name: SegmentName) -> Result<Option<Vec<u8>>> {
        let Some((directory, file)) = self.files.get(&name) else { return Ok(None) };
        let directory = open_directory(directory)?;
        let (_, reader) = crate::store::codec::decoder(directory.open_file(file)?).at("read", directory.join(file))?;
        let mut bytes = Vec::new();
        reader.take(self.size).read_to_end(&mut bytes).at("read", directory.join(file))?;
        Ok(Some(bytes))
    }
}

/// Reads the chain as the owner, outside a run: for planning.
pub fn walk_as(owner: &crate::host::Owner, request: WalkRequest) -> Result<Walked> {
    owner::call(owner, None, Task::WalkWal(Box::new(request)))
}
