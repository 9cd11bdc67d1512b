//! Native code in memory of this process, from a file that anybody may change meanwhile.
//!
//! The bytes are copied once, into private memory that is then made read-only: no other process has it, so what was
//! checked is what is run. Most of the time that takes is the kernel's for handing out pages. So components share a large
//! page, which the kernel clears when the host is made.
#![expect(
    unsafe_code,
    reason = "the engine maps files that others may write to, or copies once more; neither will do, and the safe crates \
              for memory cannot protect a part of it"
)]

use std::{
    ffi::c_void,
    fs::File,
    io,
    ptr::{self, NonNull},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rustix::{
    io::{Errno, read},
    mm::{Advice, MapFlags, MprotectFlags, ProtFlags, madvise, mmap_anonymous, mprotect, munmap},
};
use wasmtime::{CustomCodeMemory, Engine, component::Component};
use wasmtime_internal_jit_icache_coherence::{clear_cache, pipeline_flush_mt};

/// Size and alignment of a large page of x86-64 and, with small pages of 4 KiB, of aarch64. Elsewhere the advice is
/// without effect.
const LARGE_PAGE: usize = 2 << 20;

/// From this size on a large page, which the kernel has to clear whole, takes less time than small ones. Measured: 0.4 µs
/// per KiB in small pages, 110 µs for a large one.
const LARGE_FROM: usize = 288 << 10;

/// Alignment of everything that has a protection of its own: the largest of the kernel's small pages, whose real size no
/// program needs to know.
const PAGE_MAX: usize = 64 << 10;

/// A private mapping.
struct Mapping {
    base: NonNull<c_void>,
    mapped: usize,
    /// Of what is used: with large pages behind `base`.
    start: NonNull<u8>,
}

// SAFETY: it says where memory is and does nothing with it before it is unmapped by its only owner.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// `size` bytes that may be written to, without a page yet. With a multiple of [`LARGE_PAGE`] it asks for large pages.
    fn new(size: usize) -> io::Result<Self> {
        let is_large = size.is_multiple_of(LARGE_PAGE);
        // A large page needs a place that is a multiple of its size. What is not touched takes no memory.
        let more = if is_large { LARGE_PAGE } else { 0 };
        let mapped = size.checked_add(more).ok_or(io::ErrorKind::OutOfMemory)?;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at a place of the kernel's choice is nobody's yet.
        let base = unsafe { mmap_anonymous(ptr::null_mut(), mapped, protection, MapFlags::PRIVATE) }?;
        let base = NonNull::new(base).ok_or(io::ErrorKind::OutOfMemory)?;
        let mut start = base.cast::<u8>();
        if is_large {
            // SAFETY: less than a large page further, of which there is one more than needed. Without large pages it works as
            // well, only slower.
            unsafe {
                start = start.byte_add(start.as_ptr().align_offset(LARGE_PAGE));
                let _ = madvise(start.as_ptr().cast(), size, Advice::LinuxHugepage);
            }
        }
        Ok(Self { base, mapped, start })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the whole mapping, which nobody else has.
        let unmapped = unsafe { munmap(self.base.as_ptr(), self.mapped) };
        if let Err(error) = unmapped {
            tracing::warn!(%error, "memory of a plugin's code is not given back");
        }
    }
}

/// A large page that components share. Its parts are handed out from front to back and never twice.
struct Shared {
    mapping: Arc<Mapping>,
    used: usize,
}

/// The page that the next component gets a part of. The process keeps it; one that is full goes with its last component.
static SHARED: Mutex<Option<Shared>> = Mutex::new(None);

fn shared() -> MutexGuard<'static, Option<Shared>> {
    SHARED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Has the kernel clear the first large page now, so that no load waits for it. Costs 110 µs once per process.
pub(crate) fn prepare() {
    let mut shared = shared();
    if shared.is_none()
        && let Ok(mapping) = Mapping::new(LARGE_PAGE)
    {
        // SAFETY: the first byte of a mapping that nobody else has. Volatile, so that it happens although nobody reads it.
        unsafe { mapping.start.write_volatile(0) };
        *shared = Some(Shared { mapping: Arc::new(mapping), used: 0 });
    }
}

/// `size` bytes, a multiple of [`PAGE_MAX`], that are nobody else's and may be written to.
fn claim(size: usize) -> io::Result<(Arc<Mapping>, NonNull<u8>)> {
    if size > LARGE_PAGE {
        let mapping =
            Mapping::new(size.checked_next_multiple_of(LARGE_PAGE).ok_or(io::ErrorKind::OutOfMemory)?)?;
        let start = mapping.start;
        return Ok((Arc::new(mapping), start));
    }
    let mut shared = shared();
    let left = shared.as_ref().map_or(0, |shared| LARGE_PAGE - shared.used);
    if let Some(shared) = shared.as_mut().filter(|_| size <= left) {
        // SAFETY: there is so much left.
        let start = unsafe { shared.mapping.start.byte_add(shared.used) };
        shared.used += size;
        return Ok((Arc::clone(&shared.mapping), start));
    }
    let is_large = size >= LARGE_FROM;
    let mapping = Arc::new(Mapping::new(if is_large { LARGE_PAGE } else { size })?);
    let start = mapping.start;
    if !is_large {
        // All pages at once instead of one fault per page. Kernels before 5.14 do not know it.
        // SAFETY: the whole mapping, which nobody else has.
        let _ = unsafe { madvise(start.as_ptr().cast(), size, Advice::LinuxPopulateWrite) };
    } else if LARGE_PAGE - size > left {
        *shared = Some(Shared { mapping: Arc::clone(&mapping), used: size });
    }
    Ok((mapping, start))
}

/// Memory with the bytes of a file. Read-only from the start of its existence for others, so it may be shared.
pub(crate) struct CodeMemory {
    start: NonNull<u8>,
    len: usize,
    _mapping: Arc<Mapping>,
}

// SAFETY: nobody writes to the memory once `read` has returned, and it is there as long as `_mapping`.
unsafe impl Send for CodeMemory {}
// SAFETY: as above.
unsafe impl Sync for CodeMemory {}

impl CodeMemory {
    /// The next `len` bytes of `from`, at least one.
    pub(crate) fn read(from: &File, len: usize) -> io::Result<Self> {
        let size = len.max(1).checked_next_multiple_of(PAGE_MAX).ok_or(io::ErrorKind::OutOfMemory)?;
        let (mapping, start) = claim(size)?;
        // SAFETY: `claim` gives these bytes to nobody else.
        let all = unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), len) };
        let mut at = 0;
        while at < len {
            match read(from, &mut all[at..]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => at += read,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        // SAFETY: whole pages that are nobody else's; `all` is not used any more.
        unsafe { mprotect(start.as_ptr().cast(), size, MprotectFlags::READ) }?;
        Ok(Self { start, len, _mapping: mapping })
    }

    /// The bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: `len` bytes from `start` on were written by `read`, nobody writes to them again, and they are there as
        // long as `self`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    /// The component whose native code this is. The engine works on these very bytes.
    ///
    /// # Safety
    /// The bytes came out of this engine's compiler, and `self` lives longer than every clone of the component and every
    /// store with an instance of it.
    pub(crate) unsafe fn component(&self, engine: &Engine) -> wasmtime::Result<Component> {
        let bytes = NonNull::slice_from_raw_parts(self.start, self.len);
        // SAFETY: the caller's promise; nobody writes to the memory.
        unsafe { Component::deserialize_raw(engine, bytes) }
    }
}

/// How engines make code executable: in [`CodeMemory`], and in memory of their own after a compilation.
struct Publisher;

impl CustomCodeMemory for Publisher {
    fn required_alignment(&self) -> usize {
        // The smallest page of any processor: what the engine compiles is aligned for the largest one.
        4096
    }

    fn publish_executable(&self, start: *const u8, len: usize) -> wasmtime::Result<()> {
        let failed =
            |error: io::Error| wasmtime::Error::msg(format!("code cannot be made executable: {error}"));
        // Processors that keep instructions apart from data have to hear of new ones; for the others this is nothing.
        // SAFETY: the engine names a range of whole pages with nothing but code, which nobody writes to.
        unsafe {
            clear_cache(start.cast(), len).map_err(failed)?;
            let flags = MprotectFlags::READ | MprotectFlags::EXEC;
            mprotect(start.cast_mut().cast(), len, flags).map_err(|error| failed(error.into()))?;
        }
        pipeline_flush_mt().map_err(failed)
    }

    fn unpublish_executable(&self, _: *const u8, _: usize) -> wasmtime::Result<()> {
        // Asked for when the code is about to be unmapped. Until then it may as well stay as it is.
        Ok(())
    }
}

/// See [`wasmtime::Config::with_custom_code_memory`].
pub(crate) fn publisher() -> Arc<dyn CustomCodeMemory> {
    Arc::new(Publisher)
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        io::{Seek as _, SeekFrom, Write as _},
    };

    use super::{CodeMemory, LARGE_FROM, LARGE_PAGE, PAGE_MAX, prepare};

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file.rewind().unwrap();
        file
    }

    fn numbers(len: usize) -> Vec<u8> {
        (0..len).map(|number| (number % 251) as u8).collect()
    }

    /// The lines of this process's memory map that `memory` is in.
    fn protection(memory: &CodeMemory) -> Vec<String> {
        let (start, end) =
            (memory.start.as_ptr().addr(), memory.start.as_ptr().addr() + memory.bytes().len());
        let map = std::fs::read_to_string("/proc/self/maps").unwrap();
        let within = map.lines().filter(|line| {
            let (from, to) = line.split(' ').next().unwrap().split_once('-').unwrap();
            let number = |text| usize::from_str_radix(text, 16).unwrap();
            number(from) < end && number(to) > start
        });
        within.map(|line| line.split(' ').nth(1).unwrap().to_owned()).collect()
    }

    #[test]
    fn it_has_the_bytes_and_nobody_may_change_them() {
        for len in [0, 1, 4096, 200_001, LARGE_FROM, LARGE_PAGE, LARGE_PAGE + 1] {
            let mut from = file(&numbers(len));
            let memory = CodeMemory::read(&from, len).unwrap();
            // The file it came from may change now.
            from.seek(SeekFrom::Start(0)).unwrap();
            from.write_all(b"other").unwrap();
            assert!(memory.bytes() == numbers(len), "{len}");
            let protection = protection(&memory);
            assert!(protection.iter().all(|flags| flags == "r--p"), "{len}: {protection:?}");
        }
    }

    #[test]
    fn it_begins_where_the_file_stands() {
        let mut from = file(&numbers(1_000));
        from.seek(SeekFrom::Start(100)).unwrap();
        assert!(CodeMemory::read(&from, 900).unwrap().bytes() == &numbers(1_000)[100..]);
    }

    #[test]
    fn a_file_that_became_shorter_is_an_error() {
        assert!(CodeMemory::read(&file(b"short"), 6).is_err());
        assert!(CodeMemory::read(&file(b"short"), LARGE_FROM).is_err());
    }

    fn is_mapped(address: usize) -> bool {
        let map = std::fs::read_to_string("/proc/self/maps").unwrap();
        map.lines().any(|line| {
            let (from, to) = line.split(' ').next().unwrap().split_once('-').unwrap();
            let number = |text| usize::from_str_radix(text, 16).unwrap();
            (number(from)..number(to)).contains(&address)
        })
    }

    #[test]
    fn what_has_a_mapping_of_its_own_is_given_back() {
        let len = LARGE_PAGE + 1;
        let memory = CodeMemory::read(&file(&numbers(len)), len).unwrap();
        let address = memory.start.as_ptr().addr();
        assert!(is_mapped(address));
        drop(memory);
        assert!(!is_mapped(address));
    }

    #[test]
    fn components_share_a_page_and_never_a_byte() {
        prepare();
        let lens = [LARGE_FROM, 1, PAGE_MAX, LARGE_FROM + 1, 200_000, LARGE_PAGE, LARGE_FROM];
        let memories: Vec<CodeMemory> = (0..4)
            .flat_map(|_| lens)
            .map(|len| CodeMemory::read(&file(&numbers(len)), len).unwrap())
            .collect();
        for (memory, len) in memories.iter().zip(lens.into_iter().cycle()) {
            assert!(memory.bytes() == numbers(len), "{len}");
            assert!(protection(memory).iter().all(|flags| flags == "r--p"), "{len}");
        }
    }

    #[test]
    fn a_full_page_goes_with_its_last_component() {
        prepare();
        let load = || CodeMemory::read(&file(&numbers(LARGE_FROM)), LARGE_FROM).unwrap();
        let first = load();
        let address = first.start.as_ptr().addr();
        // More than one page takes, so that it is not the one that the process keeps.
        let others: Vec<CodeMemory> = (0..2 * LARGE_PAGE / LARGE_FROM).map(|_| load()).collect();
        drop(others);
        assert!(is_mapped(address), "one is left");
        drop(first);
        assert!(!is_mapped(address));
    }
}
