//! A segment's summary as bytes that can be kept, in two parts: what joins the segment to others, and the rest.
//!
//! Most transactions begin and end within one segment, and nobody who asks for one relation wants them all: they are
//! the second part, which is unpacked only when the [`Digest`] says that something in it may be wanted. Guarantees: both
//! parts together are the summary, exactly; bytes of any content are refused or give a summary, without a panic and with
//! no more memory than a few times their length.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::block::RelationFile;
use super::effects::{ByXid, Effects, Event, What, Work};
use super::summary::SegmentSummary;
use super::transaction::{Finish, PgTime};
use crate::pg::Malformed;

/// Goes up with every change of what is packed; a test holds it to the bytes.
pub const VERSION: u32 = 3;

/// How many of a segment's first transactions are taken for running when it begins. Those that were, and are not among
/// them, are found by [`Digest::xids`]: more of them only cost time.
const EARLY: usize = 64;

/// A packed summary.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Packed {
    /// Everything but [`Packed::rest`].
    pub front: Vec<u8>,
    /// Transactions that are wholly inside the segment.
    pub rest: Vec<u8>,
}

/// The first part, unpacked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Front {
    /// The summary without the transactions of the second part.
    pub summary: SegmentSummary,
    /// What these are about.
    pub digest: Digest,
}

/// The second part.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Inside {
    events: Vec<Event>,
    work: Vec<Work>,
}

impl Inside {
    /// Events and transactions in it.
    pub fn weight(&self) -> usize {
        self.events.len() + self.work.len()
    }
}

impl From<SegmentSummary> for Front {
    /// Everything in the first part.
    fn from(summary: SegmentSummary) -> Front {
        Front { summary, digest: Digest::default() }
    }
}

/// What the second part is about; where it says no, nothing in it can matter.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Digest {
    /// Time of the last commit or abort of the whole segment.
    pub newest: Option<PgTime>,
    /// Earliest and latest time of a commit in the second part.
    pub times: Option<(PgTime, PgTime)>,
    /// Transactions and subtransactions in it: each as the difference from the one before, ascending.
    xid_steps: Vec<u32>,
    /// Relations with rows that it changed.
    pub rows: BTreeSet<RelationFile>,
    /// Files that it made, cut or dropped.
    pub files: BTreeSet<RelationFile>,
    /// Database and OID of relations that it locked, truncated or redefined.
    pub oids: BTreeSet<(u32, u32)>,
    /// Databases in it.
    pub databases: BTreeSet<u32>,
    /// A transaction in it may have changed definitions.
    pub ddl: bool,
    /// One may have deleted rows or emptied a relation.
    pub deletes: bool,
    /// One may have given a relation another file.
    pub replaces: bool,
}

impl Digest {
    /// Transactions and subtransactions of the second part, ascending.
    pub fn xids(&self) -> impl Iterator<Item = u32> {
        self.xid_steps.iter().scan(0u32, |last, step| {
            *last = last.wrapping_add(*step);
            Some(*last)
        })
    }
}

/// Divides a summary. [`Inside::add_to`] makes it whole again.
pub fn divide(mut summary: SegmentSummary) -> (Front, Inside) {
    let newest = summary.effects.events.iter().rev().find_map(|event| finish(&event.what)).map(|finish| finish.time);
    let inside = take_inside(&mut summary.effects);
    let digest = Digest { newest, ..digest(&inside) };
    (Front { summary, digest }, inside)
}

/// Packs both parts.
///
/// # Errors
/// None that is known: the format can hold every summary.
pub fn pack(front: &Front, inside: &Inside) -> Result<Packed, Malformed> {
    let failed = |e: postcard::Error| Malformed::new(format!("cannot be packed: {e}"));
    Ok(Packed { front: postcard::to_stdvec(front).map_err(failed)?, rest: postcard::to_stdvec(inside).map_err(failed)? })
}

/// Unpacks the first part.
///
/// # Errors
/// When the bytes are none.
pub fn unpack(front: &[u8]) -> Result<Front, Malformed> {
    whole(postcard::take_from_bytes(front))
}

impl Inside {
    /// Unpacks the second part.
    ///
    /// # Errors
    /// When the bytes are none.
    pub fn unpack(rest: &[u8]) -> Result<Inside, Malformed> {
        whole(postcard::take_from_bytes(rest))
    }

    /// Puts the second part back where it was: in the order of the WAL.
    pub fn add_to(self, effects: &mut Effects) {
        effects.events = merge(std::mem::take(&mut effects.events), self.events, |event| event.lsn);
        effects.work = merge(std::mem::take(&mut effects.work), self.work, |work| work.first);
    }
}

fn whole<T>(taken: postcard::Result<(T, &[u8])>) -> Result<T, Malformed> {
    match taken {
        Ok((value, [])) => Ok(value),
        Ok(_) => Err(Malformed::new("a packed summary with bytes behind it")),
        Err(e) => Err(Malformed::new(format!("not a packed summary: {e}"))),
    }
}

fn merge<T, K: Ord>(first: Vec<T>, second: Vec<T>, key: impl Fn(&T) -> K) -> Vec<T> {
    if first.is_empty() || second.is_empty() {
        return if first.is_empty() { second } else { first };
    }
    let mut all = Vec::with_capacity(first.len() + second.len());
    let (mut first, mut second) = (first.into_iter().peekable(), second.into_iter().peekable());
    while let (Some(a), Some(b)) = (first.peek(), second.peek()) {
        all.extend(if key(a) <= key(b) { first.next() } else { second.next() });
    }
    all.extend(first.chain(second));
    all
}

fn finish(what: &What) -> Option<&Finish> {
    match what {
        What::Commit(finish) | What::Abort(finish) | What::CommitPrepared(finish) | What::AbortPrepared(finish) => Some(finish),
        _ => None,
    }
}

/// Moves out what belongs to transactions that begin and end here, as far as this segment can tell.
fn take_inside(effects: &mut Effects) -> Inside {
    let Some(border) = effects.work.iter().take(EARLY).map(|work| work.xid).reduce(|a, b| if is_later(b, a) { b } else { a }) else {
        return Inside::default();
    };
    let mut special = ByXid::<()>::default();
    for event in &effects.events {
        match &event.what {
            What::Storage(change) => special.insert(change.0, ()),
            What::Prepare(prepared) => special.insert(prepared.xid, ()),
            _ => None,
        };
    }
    let may_move = |xid: u32| is_later(xid, border) && !special.contains_key(&xid);
    let mut moving = ByXid::<()>::default();
    let is_inside = |event: &Event| match &event.what {
        What::Commit(finish) | What::Abort(finish) => may_move(finish.xid) && finish.subxids().iter().all(|sub| may_move(*sub)),
        _ => false,
    };
    // Most move: what stays is taken out, so that the rest need not be copied.
    let mut inside = std::mem::take(&mut effects.events);
    effects.events = inside.extract_if(.., |event| !is_inside(event)).collect();
    for finish in inside.iter().filter_map(|event| finish(&event.what)) {
        moving.insert(finish.xid, ());
        moving.extend(finish.subxids().iter().map(|sub| (*sub, ())));
    }
    let mut work = std::mem::take(&mut effects.work);
    effects.work = work.extract_if(.., |work| !moving.contains_key(&work.xid)).collect();
    Inside { events: inside, work }
}

/// Ids wrap around; those in use lie within 2^31 of each other.
fn is_later(xid: u32, than: u32) -> bool {
    xid.wrapping_sub(than) as i32 > 0
}

fn digest(inside: &Inside) -> Digest {
    let mut digest = Digest::default();
    let mut xids: Vec<u32> = Vec::with_capacity(inside.events.len());
    for event in &inside.events {
        let Some(finish) = finish(&event.what) else { continue };
        xids.push(finish.xid);
        xids.extend(finish.subxids());
        let (from, to) = digest.times.unwrap_or((finish.time, finish.time));
        digest.times = Some((from.min(finish.time), to.max(finish.time)));
        digest.databases.extend(Some(finish.database).filter(|database| *database != 0));
        if let Some(more) = &finish.more {
            digest.files.extend(&more.dropped);
            digest.oids.extend(more.relcache.iter().copied());
            digest.ddl |= more.catalog || !more.dropped.is_empty() || !more.relcache.is_empty();
            digest.deletes |= !more.dropped.is_empty();
        }
    }
    let mut last_file = None;
    for work in &inside.work {
        for (file, rows) in &work.rows {
            if last_file != Some(*file) {
                digest.rows.insert(*file);
                digest.databases.insert(file.database);
                digest.ddl |= file.is_catalog();
                last_file = Some(*file);
            }
            digest.deletes |= rows.deleted > 0;
        }
        let Some(marks) = &work.marks else { continue };
        digest.files.extend(marks.created.iter().chain(&marks.cut));
        digest.oids.extend(marks.locked.iter().chain(&marks.truncated).copied());
        digest.databases.extend(marks.created.iter().map(|file| file.database));
        digest.ddl = true;
        digest.deletes |= !marks.truncated.is_empty() || !marks.created.is_empty();
        digest.replaces |= !marks.created.is_empty();
    }
    xids.sort_unstable();
    let mut last = 0;
    digest.xid_steps = xids.into_iter().map(|xid| std::mem::replace(&mut last, xid).wrapping_neg().wrapping_add(xid)).collect();
    digest
}
