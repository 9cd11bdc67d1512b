//! Memory for a component that lives for one call.
#![expect(unsafe_code, reason = "an allocator")]

use std::{
    alloc::{GlobalAlloc, Layout},
    cell::UnsafeCell,
    ptr,
};

/// Bytes of a page of WebAssembly.
const PAGE: usize = 64 << 10;

/// Sizes are multiples of this, and so is where a block begins.
const UNIT: usize = 16;

/// Largest size with a class of its own; above, classes are powers of two.
const FINE_MAX: usize = 512;

const FINE: usize = FINE_MAX / UNIT;

const CLASSES: usize = FINE + 23;

/// An allocator of few instructions, for those who want their pattern small and fast: [`crate::call_memory!`].
///
/// A freed block is kept for the next one of about its size; nothing is ever put together or given back, because the host
/// throws everything away after the call.
pub struct CallMemory(UnsafeCell<State>);

struct State {
    /// Free blocks by class, each with the address of the next one in its first bytes.
    free: [usize; CLASSES],
    /// Where the next new block begins, and where what was taken from the host ends.
    next: usize,
    end: usize,
}

// SAFETY: a component has one thread.
unsafe impl Sync for CallMemory {}

/// Class of a size and the bytes that its blocks have; `None` when there is no such block.
fn class(size: usize) -> Option<(usize, usize)> {
    if size <= FINE_MAX {
        let units = size.div_ceil(UNIT).max(1);
        return Some((units - 1, units * UNIT));
    }
    let bytes = size.checked_next_power_of_two()?;
    let class = FINE + (bytes.trailing_zeros() - FINE_MAX.trailing_zeros() - 1) as usize;
    (class < CLASSES).then_some((class, bytes))
}

impl CallMemory {
    /// Without any memory yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(UnsafeCell::new(State { free: [0; CLASSES], next: 0, end: 0 }))
    }
}

impl Default for CallMemory {
    fn default() -> Self {
        Self::new()
    }
}

unsafe extern "C" {
    /// The linker's name for the place behind everything that the component begins with.
    static __heap_base: u8;
}

impl State {
    /// `bytes` that nobody had before.
    fn fresh(&mut self, bytes: usize, align: usize) -> Option<usize> {
        if self.next == 0 {
            // The rest of the last page, which most steps get by with: a memory that does not grow is cheaper for the host.
            self.next = (&raw const __heap_base).addr();
            self.end = core::arch::wasm32::memory_size::<0>() * PAGE;
        }
        let place = |next: usize| Some((next.checked_next_multiple_of(align)?, bytes));
        let end = |(start, bytes): (usize, usize)| start.checked_add(bytes);
        let mut found = place(self.next)?;
        if end(found)? > self.end {
            // More at a time the more there is already: asking the host costs more than the memory.
            let more = bytes.checked_add(align)?.max(self.end / 8).div_ceil(PAGE);
            let before = core::arch::wasm32::memory_grow::<0>(more);
            if before == usize::MAX {
                return None;
            }
            // Somebody else may have taken the pages in between.
            if before * PAGE != self.end {
                self.next = before * PAGE;
            }
            self.end = (before + more) * PAGE;
            found = place(self.next)?;
        }
        self.next = end(found)?;
        Some(found.0)
    }
}

// SAFETY: blocks are at least as large and aligned as asked for, and no two of them overlap: each comes from `fresh`, which
// never answers the same bytes twice, or from the list of its class, into which only `dealloc` puts it.
unsafe impl GlobalAlloc for CallMemory {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: one thread, and nothing in here allocates.
        let state = unsafe { &mut *self.0.get() };
        if layout.align() > UNIT {
            return ptr::with_exposed_provenance_mut(
                state.fresh(layout.size(), layout.align()).unwrap_or_default(),
            );
        }
        let Some((class, bytes)) = class(layout.size()) else { return ptr::null_mut() };
        let found = state.free[class];
        if found == 0 {
            return ptr::with_exposed_provenance_mut(state.fresh(bytes, UNIT).unwrap_or_default());
        }
        let block = ptr::with_exposed_provenance_mut::<usize>(found);
        // SAFETY: a block in the list, in whose first bytes `dealloc` wrote.
        state.free[class] = unsafe { block.read() };
        block.cast()
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // Blocks of a rare alignment may be smaller than those of their class.
        let Some((class, _)) = class(layout.size()).filter(|_| layout.align() <= UNIT) else { return };
        // SAFETY: one thread, and nothing in here allocates.
        let state = unsafe { &mut *self.0.get() };
        // SAFETY: the block is nobody's any more and has room for an address, at the alignment of one.
        unsafe { block.cast::<usize>().write(state.free[class]) };
        state.free[class] = block.expose_provenance();
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let is_small = layout.align() <= UNIT;
        if is_small && class(layout.size()).is_some() && class(layout.size()) == class(size) {
            return block;
        }
        // SAFETY: what the caller promises: a size that is not zero and no overflow.
        let new = unsafe {
            let new = Layout::from_size_align_unchecked(size, layout.align());
            self.alloc(new)
        };
        if !new.is_null() {
            // SAFETY: both have that many bytes, and they are different blocks.
            unsafe {
                ptr::copy_nonoverlapping(block, new, layout.size().min(size));
                self.dealloc(block, layout);
            }
        }
        new
    }
}

/// Bytes before a block of the C library, which hold its size.
const HEAD: usize = UNIT;

/// What the C library below the standard library takes its memory with. It does not say the size of what it frees.
impl CallMemory {
    fn c_layout(size: usize) -> Option<Layout> {
        Layout::from_size_align(size.checked_add(HEAD)?, UNIT).ok()
    }

    #[doc(hidden)]
    #[must_use]
    pub fn c_malloc(&self, size: usize) -> *mut u8 {
        let Some(layout) = Self::c_layout(size) else { return ptr::null_mut() };
        // SAFETY: the size is not zero, because of the head.
        let block = unsafe { self.alloc(layout) };
        if block.is_null() {
            return block;
        }
        // SAFETY: the block is aligned for it and has the head's bytes.
        unsafe {
            block.cast::<usize>().write(size);
            block.add(HEAD)
        }
    }

    #[doc(hidden)]
    #[must_use]
    pub fn c_calloc(&self, count: usize, size: usize) -> *mut u8 {
        let Some(size) = count.checked_mul(size) else { return ptr::null_mut() };
        let block = self.c_malloc(size);
        if !block.is_null() {
            // SAFETY: it has that many bytes.
            unsafe { block.write_bytes(0, size) };
        }
        block
    }

    /// # Safety
    /// `block` is null or comes from these functions and was not freed.
    #[doc(hidden)]
    pub unsafe fn c_free(&self, block: *mut u8) {
        if block.is_null() {
            return;
        }
        // SAFETY: `c_malloc` wrote the size before the block, with which its layout was a legal one.
        unsafe {
            let block = block.sub(HEAD);
            if let Some(layout) = Self::c_layout(block.cast::<usize>().read()) {
                self.dealloc(block, layout);
            }
        }
    }

    /// # Safety
    /// As [`Self::c_free`].
    #[doc(hidden)]
    pub unsafe fn c_realloc(&self, block: *mut u8, size: usize) -> *mut u8 {
        let new = self.c_malloc(size);
        if !new.is_null() && !block.is_null() {
            // SAFETY: two different blocks; the old one is ours and has its size before it.
            unsafe {
                let before = block.sub(HEAD).cast::<usize>().read();
                ptr::copy_nonoverlapping(block, new, before.min(size));
                self.c_free(block);
            }
        }
        new
    }

    /// # Safety
    /// `out` can be written.
    #[doc(hidden)]
    pub unsafe fn c_posix_memalign(&self, out: *mut *mut u8, align: usize, size: usize) -> i32 {
        // Numbers of WASI, which the C library of this target has.
        const INVALID: i32 = 28;
        const NO_MEMORY: i32 = 48;
        if !align.is_power_of_two() {
            return INVALID;
        }
        // As many bytes as a block of its class has, from the head on, because such a block is what it is freed as.
        let found = size.checked_add(HEAD).and_then(class).and_then(|(_, bytes)| {
            let whole = Layout::from_size_align(bytes.checked_add(align)?, UNIT).ok()?;
            // SAFETY: the size is not zero, because of the head.
            let block = unsafe { self.alloc(whole) };
            let start = (block.addr().checked_add(HEAD)?).checked_next_multiple_of(align.max(UNIT))?;
            (!block.is_null()).then(|| block.with_addr(start))
        });
        let Some(block) = found else { return NO_MEMORY };
        // SAFETY: the head is in front of the block, and the caller has room for its address.
        unsafe {
            block.sub(HEAD).cast::<usize>().write(size);
            out.write(block);
        }
        0
    }
}
