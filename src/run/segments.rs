//! Segments of a chain, read by the owner's child: several at a time, handed over in order.
//!
//! Memory is bounded by one window and some summaries for each reader, and those by what is held of all together. What was
//! summarised before is taken from the index where the caller allows that; what is new is sent to the coordinator to be
//! kept. Of large segments there is no summary: what their records did is handed over as it is read.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::error::{At, Error, Result};
use crate::pg::SegmentName;
use crate::run::in_order::{Weight, in_order, readers};
use crate::run::owner::{Kept, keep, open_directory};
use crate::run::reading::{ChainRequest, Files, Segment, identity};
use crate::store::codec::Decoded;
use crate::store::index::{self, Entry, Key};
use crate::store::layout::is_partial;
use crate::sys::dir::Dir;
use crate::wal::chain::{Chain, Joined};
use crate::wal::effects::{Collector, Effects};
use crate::wal::packed::{Digest, Front, Inside, Packed, divide, pack, unpack};
use crate::wal::scan::Checks;
use crate::wal::summary::{SegmentSummary, Tail, summarise_stream};
use crate::wal::{EndOfWal, Walk};

/// Segments above this size are not summarised: in one there may be a million transactions and more.
const LARGEST: u64 = 32 << 20;
/// Records of a large segment between two times that what they did is handed over.
const PIECE: usize = 100_000;
/// Packed summaries that are kept in memory for a second pass.
const REMEMBERED: usize = 32 << 20;

impl Weight for SegmentSummary {
    fn weight(&self) -> usize {
        self.effects.weight()
    }
}

impl Weight for Effects {
    fn weight(&self) -> usize {
        self.events.len() + self.work.len()
    }
}

/// Whether segments are read by [`walked`].
pub fn is_large(wanted: &ChainRequest) -> bool {
    wanted.identity.segment_size.bytes() > LARGEST
}

/// Reads `segments` of `wanted`, which follow each other, record by record, and hands over what they did in pieces, until
/// they end or are broken.
pub fn walked(wanted: &ChainRequest, segments: &[Segment], each: &mut dyn FnMut(Joined)) -> Result<Chain> {
    let size = wanted.identity.segment_size;
    let chain = Chain::new(size, wanted.history.clone(), Some(identity(wanted)));
    let Some((begin, _, _)) = segments.first() else { return Ok(chain) };
    let files = segments.iter().map(|(name, directory, file)| (*name, (directory.clone(), file.clone()))).collect();
    let mut walk = Walk::from_segment(Files(files, size), size, wanted.history.clone(), Some(identity(wanted)), begin.number);
    let (mut first, mut last, mut records) = (None, None, 0);
    let mut collector = Collector::default();
    while let Some(record) = walk.next()? {
        first.get_or_insert(record.lsn);
        last = Some((record.lsn, record.end));
        collector.record(&record);
        records += 1;
        if records % PIECE == 0 {
            each(Joined { spanning: None, inside: std::mem::take(&mut collector).finish() });
        }
    }
    each(Joined { spanning: None, inside: collector.finish() });
    Ok(chain.walked(first, last, walk.end()))
}

/// Reads `segments` of `wanted`, which follow each other, and joins them until they end or are broken.
pub fn chained<T: Send + Weight>(
    wanted: &ChainRequest,
    segments: &[Segment],
    read: &(dyn Fn(&Segment, &mut Vec<u8>) -> Read1<T> + Sync),
    join: &mut dyn FnMut(&mut Chain, T) -> Result<()>,
) -> Result<Chain> {
    let size = wanted.identity.segment_size;
    let mut chain = Chain::new(size, wanted.history.clone(), Some(identity(wanted)));
    let read = |at: usize, buffer: &mut Vec<u8>| match segments.get(at) {
        Some(segment) => read(segment, buffer),
        None => Err(Error::failed("no such segment")),
    };
    in_order(segments.len(), readers(size.bytes()), read, |segment| {
        match segment? {
            Ok(summary) => join(&mut chain, summary)?,
            Err(end) => {
                chain.unreadable(end);
            }
        }
        Ok(chain.end().is_none())
    })?;
    if chain.end().is_none() {
        chain.missing();
    }
    Ok(chain)
}

/// The bytes of a segment, decompressed. Damage of what is packed ends them: the segment is too short then. What a partial one
/// lacks is zero, as if nothing had been written there yet.
pub struct Stream {
    decoded: Decoded,
    /// Zeros that are still to come.
    lacking: u64,
}

impl Stream {
    /// Opens the file of a segment of `size` bytes.
    pub fn open(opened: &Dir, file: &str, size: u64) -> Result<Stream> {
        let (_, decoded) = crate::store::codec::decoder(opened.open_file(file)?).at("read", opened.join(file))?;
        Ok(Stream { decoded, lacking: if is_partial(file) { size } else { 0 } })
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        use ErrorKind::{InvalidData, InvalidInput, Other, UnexpectedEof};
        let read = self
            .decoded
            .read(buffer)
            .or_else(|e| if matches!(e.kind(), InvalidData | InvalidInput | UnexpectedEof | Other) { Ok(0) } else { Err(e) })?;
        let lacking = usize::try_from(self.lacking).unwrap_or(usize::MAX);
        let given = if read == 0 { buffer.len().min(lacking) } else { read };
        if read == 0
            && let Some(zeros) = buffer.get_mut(..given)
        {
            zeros.fill(0);
        }
        self.lacking = self.lacking.saturating_sub(given as u64);
        Ok(given)
    }
}

/// The outer error: a file could not be read; the inner one: what it holds is not this segment.
pub type Read1<T> = Result<std::result::Result<T, EndOfWal>>;

/// Reads a segment and nothing else: what a proof rests on.
pub fn summary(request: &ChainRequest, segment: &Segment, buffer: &mut Vec<u8>) -> Read1<SegmentSummary> {
    let checks = Checks { identity: Some(identity(request)), history: Some(request.history.clone()) };
    read(request, &open_directory(&segment.1)?, segment, checks, buffer)
}

fn read(request: &ChainRequest, opened: &Dir, (name, _, file): &Segment, checks: Checks, buffer: &mut Vec<u8>) -> Read1<SegmentSummary> {
    let size = request.identity.segment_size;
    summarise_stream(Stream::open(opened, file, size.bytes())?, buffer, *name, size, checks).at("read", opened.join(file))
}

/// What takes the segments of a chain one by one, and may leave out what it does not need.
pub trait Reader {
    /// Whether transactions in the second part matter beyond its digest, for what this reader has in hand.
    fn needs(&self, digest: &Digest) -> bool;
    /// Takes what a segment adds; `left_out` tells what its second part is about, where that was not unpacked.
    fn joined(&mut self, joined: Joined, left_out: Option<&Digest>);
}

/// A summary on its way to a reader.
struct Ready {
    front: Front,
    inside: Rest,
}

impl Weight for Ready {
    fn weight(&self) -> usize {
        let inside = match &self.inside {
            Rest::Wanted(inside) | Rest::Unpacked(inside) => inside.weight(),
            // Packed it is a tenth or so.
            Rest::Packed(bytes) => bytes.len() / 200,
        };
        self.front.summary.weight() + inside
    }
}

enum Rest {
    Wanted(Inside),
    /// Only for a reader that needs it; made just now, or from the index.
    Unpacked(Inside),
    Packed(Vec<u8>),
}

/// The index, for a child that may ask for what it has: the names of directories that are opened under another one.
pub type Indexed = BTreeMap<PathBuf, PathBuf>;

/// Where summaries come from that were made before.
pub struct Summaries {
    index: Option<Indexed>,
    /// For a second pass.
    remembered: Option<Mutex<Remembered>>,
}

#[derive(Default)]
struct Remembered {
    bytes: usize,
    packed: BTreeMap<SegmentName, Packed>,
}

impl Summaries {
    /// Those of the index; with `again`, those that the first of several passes made too.
    pub fn new(index: Option<&Indexed>, again: bool) -> Summaries {
        Summaries { index: index.cloned(), remembered: again.then(Mutex::default) }
    }

    /// Joins `segments` of `wanted`, which follow each other, until they end or are broken. Second parts are unpacked
    /// where `wants` or the reader says so.
    pub fn follow<R: Reader>(
        &self,
        wanted: &ChainRequest,
        segments: &[Segment],
        wants: &(dyn Fn(&Digest) -> bool + Sync),
        reader: &mut R,
    ) -> Result<Chain> {
        if is_large(wanted) {
            return walked(wanted, segments, &mut |joined| reader.joined(joined, None));
        }
        chained(wanted, segments, &|segment, buffer| self.ready(wanted, segment, wants, buffer), &mut |chain, ready| {
            join(chain, ready, reader)
        })
    }

    fn ready(
        &self,
        wanted: &ChainRequest,
        segment: &Segment,
        wants: &(dyn Fn(&Digest) -> bool + Sync),
        buffer: &mut Vec<u8>,
    ) -> Read1<Ready> {
        let (name, directory, file) = segment;
        let opened = open_directory(directory)?;
        let key = self.index.as_ref().and_then(|index| key(index, &opened, directory, file));
        let known = self.known(*name, file, key.as_ref()).and_then(|packed| self.unpack(wanted, *name, packed, wants));
        if let Some(ready) = known {
            return Ok(Ok(ready));
        }
        // By itself, as it can be kept: what chains check of it again.
        let plain = read(wanted, &opened, segment, Checks::default(), buffer)?;
        let whole = plain.ok().filter(|summary| !matches!(summary.tail, Tail::Ended(_)) && fits(wanted, *name, summary));
        let Some(summary) = whole else {
            let summary = summary(wanted, segment, buffer)?;
            return Ok(summary.map(|summary| Ready { front: summary.into(), inside: Rest::Wanted(Inside::default()) }));
        };
        let (front, inside) = divide(summary);
        let still = key.filter(|key| key.is_still(&opened, file));
        if self.remembered.is_some() || still.is_some() {
            let packed = pack(&front, &inside).map_err(|e| Error::failed("pack a summary").cause(e))?;
            if let Some(key) = still {
                key.keep(Entry::Summary, file, &packed);
            }
            self.remember(*name, packed);
        }
        let inside = if wants(&front.digest) { Rest::Wanted(inside) } else { Rest::Unpacked(inside) };
        Ok(Ok(Ready { front, inside }))
    }

    fn known(&self, name: SegmentName, file: &str, key: Option<&Known>) -> Option<Packed> {
        let remembered = self.remembered.as_ref().and_then(|r| r.lock().ok()?.packed.get(&name).cloned());
        remembered.or_else(|| key?.look_up(Entry::Summary, file))
    }

    fn unpack(&self, wanted: &ChainRequest, name: SegmentName, packed: Packed, wants: &(dyn Fn(&Digest) -> bool + Sync)) -> Option<Ready> {
        let front = unpack(&packed.front).ok().filter(|front| fits(wanted, name, &front.summary))?;
        let inside =
            if wants(&front.digest) { Rest::Wanted(Inside::unpack(&packed.rest).ok()?) } else { Rest::Packed(packed.rest.clone()) };
        self.remember(name, packed);
        Some(Ready { front, inside })
    }

    fn remember(&self, name: SegmentName, packed: Packed) {
        let Some(Ok(mut remembered)) = self.remembered.as_ref().map(Mutex::lock) else { return };
        let bytes = packed.front.len() + packed.rest.len();
        if remembered.bytes + bytes <= REMEMBERED && !remembered.packed.contains_key(&name) {
            remembered.bytes += bytes;
            remembered.packed.insert(name, packed);
        }
    }
}

/// A file as it was when it was looked at, by the name of its directory under which the index knows it.
pub(super) struct Known {
    directory: PathBuf,
    key: Key,
}

/// How the index knows a file, if it is one about which something can be kept.
pub(super) fn key(index: &Indexed, opened: &Dir, directory: &Path, file: &str) -> Option<Known> {
    let directory = index.get(directory).map_or(directory, PathBuf::as_path);
    let key = Key::new(directory.join(file), &opened.metadata(file).ok()?);
    key.is_settled().then(|| Known { directory: directory.to_path_buf(), key })
}

impl Known {
    /// What the index has of it.
    pub(super) fn look_up(&self, entry: Entry, file: &str) -> Option<Packed> {
        index::look_up(entry, &self.directory, file, &self.key)
    }

    /// It did not change since.
    pub(super) fn is_still(&self, opened: &Dir, file: &str) -> bool {
        opened.metadata(file).is_ok_and(|now| Key::new(self.directory.join(file), &now) == self.key)
    }

    /// Has the index keep what was found out.
    pub(super) fn keep(&self, entry: Entry, file: &str, packed: &Packed) {
        if let Some(bytes) = index::encode(&self.key, packed) {
            keep(Kept { entry, directory: self.directory.clone(), file: file.to_string(), bytes });
        }
    }
}

/// A summary that was made without knowing the chain is the one that would be made knowing it.
fn fits(wanted: &ChainRequest, name: SegmentName, summary: &SegmentSummary) -> bool {
    let identity = identity(wanted);
    let of_history =
        |run: &crate::wal::summary::PageRun| [run.first, run.last].map(|page| wanted.history.timeline_at(page)) == [run.timeline; 2];
    summary.name == name
        && summary.size == wanted.identity.segment_size
        && summary.system_identifier == identity.system_identifier
        && summary.major == identity.major
        && !matches!(summary.tail, Tail::Ended(_))
        && summary.timelines.iter().all(of_history)
}

fn join<R: Reader>(chain: &mut Chain, ready: Ready, reader: &mut R) -> Result<()> {
    let Ready { mut front, inside } = ready;
    let inside = match inside {
        Rest::Wanted(inside) => Some(inside),
        Rest::Unpacked(inside) if reader.needs(&front.digest) => Some(inside),
        Rest::Packed(bytes) if reader.needs(&front.digest) => {
            Some(Inside::unpack(&bytes).map_err(|e| Error::failed("read a summary of WAL from the index").cause(e))?)
        }
        Rest::Unpacked(_) | Rest::Packed(_) => None,
    };
    let left_out = inside.is_none().then_some(&front.digest);
    if let Some(inside) = inside {
        inside.add_to(&mut front.summary.effects);
    }
    if let Ok(joined) = chain.push(front.summary) {
        reader.joined(joined, left_out);
    }
    Ok(())
}
