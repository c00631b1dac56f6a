//! Things read by several threads and taken in order. What waits to be taken is bounded by what it weighs.

use std::sync::mpsc::sync_channel;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};

/// Readers at the same time, and bytes of segments that they may hold together.
const READERS: usize = 4;
const HELD: u64 = 128 << 20;
/// Events and transactions that wait to be joined before no more segments are begun; each is some hundred bytes.
const WAITING: usize = 200_000;

/// How many segments of this size are read at a time.
pub(super) fn readers(segment: u64) -> usize {
    let room = usize::try_from(HELD / segment.max(1)).unwrap_or(READERS);
    std::thread::available_parallelism().map_or(1, usize::from).min(READERS).min(room).max(1)
}

/// What a thing weighs while it waits to be taken.
pub trait Weight {
    /// Some measure of the memory it needs.
    fn weight(&self) -> usize;
}

/// Which thing is taken next, and what those weigh that wait.
#[derive(Default)]
struct Line {
    next: usize,
    weight: usize,
    /// Being read.
    begun: usize,
    /// Of all that were read.
    heaviest: usize,
    over: bool,
}

#[derive(Default)]
struct Queue(Mutex<Line>, Condvar);

impl Queue {
    fn line(&self) -> MutexGuard<'_, Line> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there is room for one more; whoever is next has it. Whether there is anything to do still.
    fn begin(&self, at: usize) -> bool {
        let full = |line: &mut Line| !line.over && at != line.next && line.weight + (line.begun + 1) * line.heaviest > WAITING;
        let mut line = self.1.wait_while(self.line(), full).unwrap_or_else(PoisonError::into_inner);
        line.begun += 1;
        !line.over
    }

    fn read(&self, weight: usize) {
        let mut line = self.line();
        line.begun = line.begun.saturating_sub(1);
        line.weight += weight;
        line.heaviest = line.heaviest.max(weight);
    }

    fn took(&self, weight: usize, over: bool) {
        let mut line = self.line();
        line.next += 1;
        line.weight = line.weight.saturating_sub(weight);
        line.over |= over;
        drop(line);
        self.1.notify_all();
    }
}

/// Reads `count` things with `readers` threads and takes the results in order, until `take` says that it is enough.
/// Each thread has one buffer.
pub fn in_order<T: Send + Weight>(
    count: usize,
    readers: usize,
    read: impl Fn(usize, &mut Vec<u8>) -> T + Sync,
    mut take: impl FnMut(T) -> Result<bool>,
) -> Result<()> {
    let (read, queue) = (&read, &Queue::default());
    std::thread::scope(|scope| {
        let (mut results, mut threads) = (Vec::new(), Vec::new());
        for reader in 0..readers {
            let (sender, receiver) = sync_channel(1);
            results.push(receiver);
            threads.push(scope.spawn(move || {
                let mut buffer = Vec::new();
                for at in (reader..count).step_by(readers) {
                    if !queue.begin(at) {
                        return;
                    }
                    let read = read(at, &mut buffer);
                    let weight = read.weight();
                    queue.read(weight);
                    if sender.send((weight, read)).is_err() {
                        return;
                    }
                }
            }));
        }
        let mut outcome = Ok(true);
        for result in (0..count).filter_map(|at| results.get(at % readers)) {
            let received = result.recv().map_err(|_| Error::failed("a reader of WAL died"));
            let weight = received.as_ref().map_or(0, |(weight, _)| *weight);
            outcome = received.and_then(|(_, read)| take(read));
            let over = !matches!(outcome, Ok(true));
            queue.took(weight, over);
            if over {
                break;
            }
        }
        drop(results);
        for thread in threads {
            if thread.join().is_err() && outcome.is_ok() {
                outcome = Err(Error::failed("a reader of WAL died"));
            }
        }
        outcome.map(|_| ())
    })
}

impl<T: Weight, E, F> Weight for std::result::Result<std::result::Result<T, E>, F> {
    fn weight(&self) -> usize {
        self.as_ref().ok().and_then(|read| read.as_ref().ok()).map_or(0, Weight::weight)
    }
}
