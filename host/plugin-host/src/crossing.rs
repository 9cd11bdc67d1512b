//! What crosses the border between guest and host, counted for the bill and bounded per call.

use wasmtime::component::Resource;

use crate::{
    bindings::adapter::pangolin::base::types::Refusal,
    failure::Failure,
    limits::Limits,
    state::{CallState, stop},
};

/// Calls of host functions and the bytes that crossed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Crossed {
    pub(crate) calls: u64,
    pub(crate) from_guest: u64,
    pub(crate) to_guest: u64,
    cap: u64,
    /// Members of items to add: each takes memory, even one without a byte.
    pieces: usize,
}

/// Most members of items to add in one call, all items together. Every item of a full step may have a hundred.
const PIECES_MAX: usize = 1_000_000;

impl Crossed {
    pub(crate) const fn new(limits: &Limits) -> Self {
        Self { calls: 0, from_guest: 0, to_guest: 0, cap: limits.hostcall_bytes_total, pieces: 0 }
    }
}

impl Crossed {
    /// Counts members of items to add.
    pub(crate) fn pieces(&mut self, more: usize) -> wasmtime::Result<()> {
        self.pieces = self.pieces.saturating_add(more);
        if self.pieces <= PIECES_MAX {
            return Ok(());
        }
        Err(stop(Failure::OutputLimit {
            what: "the number of members of all items to add".into(),
            size: self.pieces as u64,
            cap: PIECES_MAX as u64,
        }))
    }
}

impl CallState {
    /// To be called by every host function: counts the call and the bytes of text and data that came with it.
    pub(crate) fn called(&mut self, from_guest: usize) -> wasmtime::Result<()> {
        let crossed = &mut self.crossed;
        crossed.calls += 1;
        crossed.from_guest = crossed.from_guest.saturating_add(from_guest as u64);
        if crossed.from_guest <= crossed.cap {
            return Ok(());
        }
        Err(stop(Failure::OutputLimit {
            what: "the data passed to all host functions in bytes".into(),
            size: crossed.from_guest,
            cap: crossed.cap,
        }))
    }

    /// The refusal that a conformance suite wants for this call. Right after [`Self::called`].
    pub(crate) fn forced(&self) -> Option<Refusal> {
        (self.probe.refuse_call == Some(self.crossed.calls)).then(|| Refusal {
            capability: "probe".into(),
            subject: format!("call {}", self.crossed.calls),
            reason: "the conformance suite refuses this call to see what the plugin makes of it".into(),
        })
    }

    /// The end of a host function that answers: counts call, arguments and answer.
    pub(crate) fn answer<T: Weigh>(&mut self, from_guest: usize, value: T) -> wasmtime::Result<T> {
        self.called(from_guest)?;
        self.crossed.to_guest = self.crossed.to_guest.saturating_add(value.weight() as u64);
        Ok(value)
    }
}

/// Bytes of text and data in an answer; numbers and handles weigh their size.
pub(crate) trait Weigh {
    fn weight(&self) -> usize;
}

impl Weigh for String {
    fn weight(&self) -> usize {
        self.len()
    }
}

impl Weigh for bool {
    fn weight(&self) -> usize {
        1
    }
}

impl Weigh for u8 {
    fn weight(&self) -> usize {
        1
    }
}

impl Weigh for u16 {
    fn weight(&self) -> usize {
        2
    }
}

impl Weigh for u32 {
    fn weight(&self) -> usize {
        4
    }
}

impl Weigh for u64 {
    fn weight(&self) -> usize {
        8
    }
}

impl<T: 'static> Weigh for Resource<T> {
    fn weight(&self) -> usize {
        4
    }
}

impl<T: Weigh> Weigh for Option<T> {
    fn weight(&self) -> usize {
        self.as_ref().map_or(0, Weigh::weight)
    }
}

impl<T: Weigh> Weigh for Vec<T> {
    fn weight(&self) -> usize {
        self.iter().map(Weigh::weight).sum()
    }
}

impl<T: Weigh> Weigh for std::sync::Arc<T> {
    fn weight(&self) -> usize {
        T::weight(self)
    }
}

impl Weigh for crate::bindings::pattern::pangolin::pattern::graph::ItemBrief {
    fn weight(&self) -> usize {
        self.id.len() + 12
    }
}

impl Weigh for crate::bindings::pattern::pangolin::pattern::graph::Phase {
    fn weight(&self) -> usize {
        1
    }
}

impl Weigh for crate::bindings::pattern::pangolin::pattern::graph::Texts {
    fn weight(&self) -> usize {
        self.bytes.len() + 4 * self.ends.len()
    }
}

impl Weigh for crate::bindings::pattern::pangolin::pattern::graph::TextLists {
    fn weight(&self) -> usize {
        self.texts.weight() + 4 * self.ends.len()
    }
}

impl Weigh for crate::bindings::pattern::pangolin::pattern::graph::IndexLists {
    fn weight(&self) -> usize {
        4 * (self.indexes.len() + self.ends.len())
    }
}
