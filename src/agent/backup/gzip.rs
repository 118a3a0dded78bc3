//! Compresses a stream on several threads, into one file that any gzip opens.
//!
//! Runs on the host. The stream is cut into blocks, each becomes a gzip member of its own, and members are written in
//! the order of their blocks; gzip defines a file of several members as their contents one after another. Memory is
//! bounded by the number of threads. Because members are independent, the writer can go back to a [`GzipMark`] and write
//! something else.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

use crate::disk;
use crate::sizes::{first, wide};
use belay_model::digest::hex;

/// How much of the stream one member holds.
const BLOCK: usize = 1024 * 1024;

/// More threads than this would take a small host away from its application.
const MOST_THREADS: usize = 4;

/// A block on its way to a thread, and where its member goes.
struct Job {
    block: Vec<u8>,
    member: SyncSender<io::Result<Vec<u8>>>,
}

/// A place in the file between two members.
#[derive(Clone)]
pub(super) struct GzipMark {
    length: u64,
    hash: Sha256,
}

/// What was written: the file's length and SHA-256 (hex).
pub(super) struct Written {
    pub(super) length: u64,
    pub(super) sha256: String,
}

/// Writes a file in gzip members, compressed on several threads.
pub(super) struct ParallelGzip {
    file: File,
    length: u64,
    hash: Sha256,
    block: Vec<u8>,
    jobs: Option<Sender<Job>>,
    /// Members that are not written yet, in order.
    underway: VecDeque<Receiver<io::Result<Vec<u8>>>>,
    threads: Vec<JoinHandle<()>>,
}

impl ParallelGzip {
    /// Starts writing at the beginning of an empty file.
    pub(super) fn new(file: File) -> ParallelGzip {
        let count = std::thread::available_parallelism()
            .map_or(1, usize::from)
            .min(MOST_THREADS);
        let (jobs, queue) = channel();
        let queue = Arc::new(Mutex::new(queue));
        let threads = (0..count)
            .map(|_| {
                let queue = Arc::clone(&queue);
                std::thread::spawn(move || compress_jobs(&queue))
            })
            .collect();
        ParallelGzip {
            file,
            length: 0,
            hash: Sha256::new(),
            block: Vec::with_capacity(BLOCK),
            jobs: Some(jobs),
            underway: VecDeque::new(),
            threads,
        }
    }

    /// Ends the member that is being filled, writes everything, and returns where that is.
    pub(super) fn mark(&mut self) -> io::Result<GzipMark> {
        self.send_block()?;
        self.write_down_to(0)?;
        Ok(GzipMark {
            length: self.length,
            hash: self.hash.clone(),
        })
    }

    /// Forgets everything that was written since a mark.
    pub(super) fn back_to(&mut self, mark: &GzipMark) -> io::Result<()> {
        self.block.clear();
        // Members underway are dropped unread: their threads find nobody waiting.
        self.underway.clear();
        self.file.set_len(mark.length)?;
        self.file.seek(SeekFrom::Start(mark.length))?;
        self.length = mark.length;
        self.hash = mark.hash.clone();
        Ok(())
    }

    /// Writes what is left and syncs the file, which was opened at `path`.
    pub(super) fn finish(mut self, path: &Path) -> io::Result<Written> {
        let mark = self.mark()?;
        disk::sync_all(&self.file, path)?;
        Ok(Written {
            length: mark.length,
            sha256: hex(&mark.hash.finalize()),
        })
    }

    fn send_block(&mut self) -> io::Result<()> {
        if self.block.is_empty() {
            return Ok(());
        }
        let block = std::mem::replace(&mut self.block, Vec::with_capacity(BLOCK));
        let (member, receiver) = sync_channel(1);
        let jobs = self.jobs.as_ref().ok_or_else(thread_ended)?;
        jobs.send(Job { block, member })
            .map_err(|_| thread_ended())?;
        self.underway.push_back(receiver);
        self.write_down_to(self.threads.len() * 2)
    }

    /// Writes finished members, waiting for them, until at most `most` are underway.
    fn write_down_to(&mut self, most: usize) -> io::Result<()> {
        while self.underway.len() > most {
            let Some(receiver) = self.underway.pop_front() else {
                return Ok(());
            };
            let member = receiver.recv().map_err(|_| thread_ended())??;
            self.file.write_all(&member)?;
            self.hash.update(&member);
            self.length += wide(member.len());
        }
        Ok(())
    }
}

impl Write for ParallelGzip {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(BLOCK - self.block.len());
        self.block.extend_from_slice(first(bytes, taken));
        if self.block.len() == BLOCK {
            self.send_block()?;
        }
        Ok(taken)
    }

    /// Does nothing: a member that ends early compresses worse. [`ParallelGzip::finish`] writes everything.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for ParallelGzip {
    fn drop(&mut self) {
        self.underway.clear();
        self.jobs = None;
        for thread in self.threads.drain(..) {
            // A thread that panicked has been noticed by whoever waited for its member.
            let _ = thread.join();
        }
    }
}

fn compress_jobs(queue: &Mutex<Receiver<Job>>) {
    loop {
        let Ok(Ok(job)) = queue.lock().map(|queue| queue.recv()) else {
            return;
        };
        // Nobody may be waiting any more: the writer has gone back, or failed.
        let _ = job.member.send(compress(&job.block));
    }
}

fn compress(block: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(block.len() / 2), Compression::new(6));
    encoder.write_all(block)?;
    encoder.finish()
}

fn thread_ended() -> io::Error {
    io::Error::other("a compressing thread has ended")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn bytes(length: usize, seed: u32) -> Vec<u8> {
        let mut state = seed;
        (0..length)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            })
            .collect()
    }

    fn plain(path: &Path) -> Vec<u8> {
        let mut all = vec![];
        let file = File::open(path).expect("the file is there");
        flate2::read::MultiGzDecoder::new(file)
            .read_to_end(&mut all)
            .expect("it is gzip");
        all
    }

    #[test]
    fn members_stay_in_the_order_of_their_blocks() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("x.gz");
        let wanted = bytes(7 * BLOCK + 12_345, 1);
        let mut gzip = ParallelGzip::new(crate::durable::create_new(&path).expect("a file"));
        for chunk in wanted.chunks(99_991) {
            gzip.write_all(chunk).expect("written");
        }
        let written = gzip.finish(&path).expect("finished");
        let file = std::fs::read(&path).expect("the file");
        assert_eq!(written.length, file.len() as u64);
        assert_eq!(written.sha256, hex(&Sha256::digest(&file)));
        assert!(plain(&path) == wanted);
    }

    #[test]
    fn going_back_forgets_what_came_after_the_mark() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("x.gz");
        let mut gzip = ParallelGzip::new(crate::durable::create_new(&path).expect("a file"));
        gzip.write_all(b"kept, ").expect("written");
        let mark = gzip.mark().expect("a mark");
        for attempt in 0..3 {
            gzip.write_all(&bytes(5 * BLOCK + 7, attempt))
                .expect("written");
            gzip.back_to(&mark).expect("gone back");
        }
        gzip.write_all(b"and this").expect("written");
        let written = gzip.finish(&path).expect("finished");
        assert_eq!(plain(&path), b"kept, and this");
        let file = std::fs::read(&path).expect("the file");
        assert_eq!(written.sha256, hex(&Sha256::digest(&file)));
    }
}
