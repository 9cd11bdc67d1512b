//! Bytes that nobody can change any more, the owner included.

use std::{
    fs::File,
    io,
    os::{fd::AsRawFd as _, unix::fs::FileExt as _},
    path::PathBuf,
};

use rustix::{
    fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create, sendfile},
    io::Errno,
};

/// Bytes read at once: they stay in the processor's cache while they are hashed.
const PIECE: usize = 64 << 10;

/// A file in memory under the kernel's seals: neither its bytes nor its size change for as long as it exists. What was
/// checked may be mapped later without a copy.
pub(crate) struct Sealed(File);

impl Sealed {
    /// The next `size` bytes of `from`.
    pub(crate) fn copy_of(from: &File, size: u64) -> io::Result<Self> {
        let memory = create()?;
        let mut left = size;
        while left > 0 {
            let copied = sendfile(&memory, from, None, usize::try_from(left).unwrap_or(usize::MAX))?;
            if copied == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            left = left.saturating_sub(copied as u64);
        }
        fcntl_add_seals(&memory, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
        Ok(Self(memory))
    }

    /// All bytes in pieces.
    pub(crate) fn read(&self, mut each: impl FnMut(&[u8])) -> io::Result<()> {
        let mut piece = vec![0; PIECE];
        let mut at = 0;
        loop {
            match self.0.read_at(&mut piece, at) {
                Ok(0) => return Ok(()),
                Ok(read) => {
                    each(&piece[..read]);
                    at += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// A name of it while it exists, for this process only.
    pub(crate) fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.0.as_raw_fd()).into()
    }
}

fn create() -> io::Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // It is not a program. Kernels before 6.3 do not know the flag.
    let made = match memfd_create(c"pangolin-plugin-code", flags | MemfdFlags::NOEXEC_SEAL) {
        Err(Errno::INVAL) => memfd_create(c"pangolin-plugin-code", flags),
        made => made,
    };
    Ok(File::from(made?))
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{File, OpenOptions},
        io::{Seek as _, Write as _},
    };

    use super::Sealed;

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file.rewind().unwrap();
        file
    }

    fn bytes(sealed: &Sealed) -> Vec<u8> {
        let mut all = Vec::new();
        sealed.read(|piece| all.extend_from_slice(piece)).unwrap();
        all
    }

    #[test]
    fn it_has_the_bytes_and_nobody_changes_them() {
        let original: Vec<u8> = (0..200_000_u32).map(|number| number as u8).collect();
        let mut from = file(&original);
        let sealed = Sealed::copy_of(&from, original.len() as u64).unwrap();
        assert!(bytes(&sealed) == original);
        // The file it came from may change now.
        from.rewind().unwrap();
        from.write_all(b"other").unwrap();
        assert!(bytes(&sealed) == original);
        // Another descriptor of it, opened for writing, is refused every change.
        let mut other = OpenOptions::new().write(true).open(sealed.path()).unwrap();
        assert!(other.write_all(b"other").is_err());
        assert!(other.set_len(3).is_err());
        assert!(other.set_len(300_000).is_err());
        assert!(bytes(&sealed) == original);
    }

    #[test]
    fn a_file_that_became_shorter_is_an_error() {
        assert!(Sealed::copy_of(&file(b"short"), 6).is_err());
        assert_eq!(bytes(&Sealed::copy_of(&file(b"short"), 0).unwrap()), b"");
    }
}
