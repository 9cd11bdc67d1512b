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

/// An allocator of few instructions, for those who want their pattern small and fast:
///
/// ```ignore
/// #[cfg(target_family = "wasm")]
/// #[global_allocator]
/// static MEMORY: pangolin_pattern_sdk::CallMemory = pangolin_pattern_sdk::CallMemory::new();
/// ```
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

impl State {
    /// `bytes` that nobody had before.
    fn fresh(&mut self, bytes: usize, align: usize) -> Option<usize> {
        let place = |next: usize| Some((next.checked_next_multiple_of(align)?, bytes));
        let end = |(start, bytes): (usize, usize)| start.checked_add(bytes);
        let mut found = place(self.next)?;
        if self.next == 0 || end(found)? > self.end {
            // More at a time the more there is already: asking the host costs more than the memory.
            let more = bytes.checked_add(align)?.max(self.end / 8).div_ceil(PAGE);
            let before = core::arch::wasm32::memory_grow::<0>(more);
            if before == usize::MAX {
                return None;
            }
            // Somebody else may have taken the pages in between.
            if self.next == 0 || before * PAGE != self.end {
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
