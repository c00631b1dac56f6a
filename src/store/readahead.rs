//! Reading on a second thread, a bounded step ahead of who uses the bytes.

use std::io::{self, Cursor, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use super::codec::{CHUNK, Decoded};

/// Buffers in flight: with four neither side waits for the other's jitter.
const CHUNKS: usize = 4;

/// Reads `source` ahead on its own thread, so that decompression runs beside what the caller does with the bytes. At most
/// [`CHUNKS`] buffers exist. Dropping it ends the thread.
pub struct ReadAhead {
    full: Option<Receiver<io::Result<Vec<u8>>>>,
    spare: SyncSender<Vec<u8>>,
    current: Cursor<Vec<u8>>,
    ended: bool,
    thread: Option<JoinHandle<()>>,
}

impl ReadAhead {
    /// Starts reading.
    pub fn new(source: Decoded) -> io::Result<ReadAhead> {
        let (full_in, full) = sync_channel(CHUNKS);
        let (spare, spare_out) = sync_channel(CHUNKS + 1);
        let thread = std::thread::Builder::new().name("decompress".into()).spawn(move || fill(source, &full_in, &spare_out))?;
        Ok(ReadAhead { full: Some(full), spare, current: Cursor::new(Vec::new()), ended: false, thread: Some(thread) })
    }

    fn next_chunk(&mut self) -> io::Result<()> {
        match self.full.as_ref().map(Receiver::recv) {
            Some(Ok(Ok(chunk))) => {
                let empty = std::mem::replace(&mut self.current, Cursor::new(chunk)).into_inner();
                // A spare buffer that finds no place is freed.
                let _ = self.spare.try_send(empty);
                Ok(())
            }
            Some(Ok(Err(e))) => {
                self.ended = true;
                Err(e)
            }
            _ => {
                self.ended = true;
                self.current = Cursor::new(Vec::new());
                Ok(())
            }
        }
    }
}

impl Read for ReadAhead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let n = self.current.read(buffer)?;
            if n > 0 || buffer.is_empty() || self.ended {
                return Ok(n);
            }
            self.next_chunk()?;
        }
    }
}

impl Drop for ReadAhead {
    fn drop(&mut self) {
        // Without a receiver the thread's next send fails and it ends.
        self.full = None;
        if let Some(thread) = self.thread.take() {
            // A panic there was already seen here as the end of the stream.
            let _ = thread.join();
        }
    }
}

fn fill(mut source: Decoded, full: &SyncSender<io::Result<Vec<u8>>>, spare: &Receiver<Vec<u8>>) {
    loop {
        let mut chunk = spare.try_recv().unwrap_or_else(|_| Vec::with_capacity(CHUNK));
        chunk.clear();
        let read = source.by_ref().take(CHUNK as u64).read_to_end(&mut chunk);
        // What came before an error is still handed over: the reader names the place where the stream broke.
        let at_end = chunk.is_empty();
        if (!at_end && full.send(Ok(chunk)).is_err()) || (at_end && read.is_ok()) {
            return;
        }
        if let Err(e) = read {
            // Nobody waits for the error where the receiver is gone.
            let _ = full.send(Err(e));
            return;
        }
    }
}
