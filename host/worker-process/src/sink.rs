//! Pumps one output pipe of the worker into its bounded file.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::OpenOptionsExt,
    },
    path::Path,
};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use pangolin_ports::worker_output::{Accepted, OutputBound, StreamKind};

/// A file of which only the first bytes are kept.
pub(crate) struct Sink {
    file: File,
    bound: OutputBound,
}

impl Sink {
    /// Creates the file; it must not exist.
    pub(crate) fn create(path: &Path, kind: StreamKind, limit: u64) -> io::Result<Self> {
        // create_new refuses symlinks too.
        let file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(|error| {
                io::Error::new(error.kind(), format!("create {}: {error}", path.display()))
            })?;
        Ok(Self { file, bound: OutputBound::new(kind, limit) })
    }

    fn write(&mut self, chunk: &[u8]) -> io::Result<()> {
        match self.bound.accept(chunk) {
            Accepted::Append(keep) => self.file.write_all(keep),
            Accepted::Cut { keep, length, marker } => {
                self.file.write_all(keep)?;
                self.file.set_len(length)?;
                self.file.seek(SeekFrom::Start(length))?;
                self.file.write_all(marker.as_bytes())
            }
        }
    }
}

/// One pipe and where it goes. Never blocks.
pub(crate) struct Pump<P> {
    pipe: Option<P>,
    sink: Sink,
    broken: bool,
}

impl<P: Read + AsFd> Pump<P> {
    pub(crate) fn new(pipe: P, sink: Sink) -> io::Result<Self> {
        let flags = OFlag::from_bits_retain(fcntl(&pipe, FcntlArg::F_GETFL)?);
        fcntl(&pipe, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        Ok(Self { pipe: Some(pipe), sink, broken: false })
    }

    /// The descriptor to poll, until the pipe ends.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    /// Moves what is there, at most `rounds` buffers. A full disk loses output but must not block the worker, so
    /// reading goes on.
    pub(crate) fn turn(&mut self, rounds: usize) {
        let mut buffer = [0; 64 << 10];
        for _ in 0..rounds {
            let Some(pipe) = &mut self.pipe else { return };
            match pipe.read(&mut buffer) {
                Ok(0) => self.pipe = None,
                Ok(count) => {
                    if !self.broken
                        && let Err(error) = self.sink.write(&buffer[..count])
                    {
                        self.broken = true;
                        crate::supervise::complain(&format!("worker output is lost from here on: {error}"));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => self.pipe = None,
            }
        }
    }
}
