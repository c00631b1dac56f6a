//! PostgreSQL's write-ahead log, read without a server: majors 13 to 18.
//!
//! Guarantees: pure (bytes come in through readers that the caller opened), no panic on any input, memory
//! bounded by what the WAL says, never by a segment's size. A record is handed out only after its page headers, length, prev-link and
//! CRC-32C were found good. Where reading stops, [`EndOfWal`] says where and why; whether that is the normal
//! end or a gap is the caller's knowledge (is there a later segment of the same history?).
//!
//! Two ways to read: [`walk`] gives the records one by one from an LSN on; [`summary`] reads one segment by
//! itself, in parallel with others, and [`chain`] joins the results to the same proof.
//!
//! * [`page`], [`record`], [`block`]: what surrounds every record. [`scan`], [`window`]: the records of one segment,
//!   of which some pages are in memory at a time.
//! * [`transaction`], [`heap`], [`xlog`], [`standby`], [`storage`]: what records say. [`effects`]: their sum.
//! * [`ledger`]: transactions put together. [`resolve`]: what a recovery target means. [`inquiry`], [`log`]: one pass for
//!   a plan, and for a person. [`tuple`], [`image`], [`rows`], [`acts`]: rows of a few tables, and who wrote them. [`names`],
//!   [`called`]: what relations were called.
//!
//! # Bytes that no check covers
//!
//! PostgreSQL's format leaves these unprotected; a change in them is not noticed, and changes nothing that
//! is read: the zero bytes between a record's end and the next 8-byte boundary; bytes 20..24 of every page
//! header; the flag `XLP_BKP_REMOVABLE` of `xlp_info`; what follows an `XLOG_SWITCH` record in its segment;
//! everything after the end of WAL. Of the first record of a read, `xl_prev` is only known to point backwards, and
//! without a [`Identity`] the first segment's system identifier and major are believed.

pub mod acts;
pub mod assembly;
pub mod block;
pub(crate) mod bytes;
pub mod called;
pub mod chain;
pub mod effects;
pub mod end;
mod enter;
pub mod heap;
pub mod image;
pub mod inquiry;
pub mod ledger;
pub mod log;
pub mod names;
pub mod packed;
pub mod page;
mod pages;
pub mod record;
pub mod resolve;
pub mod rows;
pub mod scan;
pub mod standby;
pub mod start;
pub mod storage;
pub mod summary;
pub mod transaction;
pub mod tuple;
pub mod walk;
pub mod window;
pub mod xlog;

pub use block::{Block, Fork, Layout, RelationFile};
pub use end::{EndOfWal, Reason};
pub use record::{Header, Record, Rmgr};
pub use start::Identity;
pub use transaction::PgTime;
pub use walk::{SegmentSource, Walk};
