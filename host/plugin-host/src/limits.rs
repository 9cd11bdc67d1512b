//! Bounds of one call, and the limiter that remembers what it refused.

use std::time::Duration;

use pangolin_core::pattern::StepLimits;
use wasmtime::ResourceLimiter;

use crate::failure::{Failure, Room};

/// Bounds of one call. The defaults of [`Limits::pure`] and [`Limits::effect`] fit every plugin that ships with
/// Pangolin many times over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Instructions (fuel): fixed part. Only the pure profile counts.
    pub fuel_base: u64,
    /// Instructions per item of the run. What interpreters need sets it: a JavaScript pattern uses 344,000 for an item
    /// that it looks at, and every item of a run may have changed.
    pub fuel_per_item: u64,
    /// Most instructions however large the run is.
    pub fuel_max: u64,
    /// Wall time of one call.
    pub wall: Duration,
    /// Linear memory in bytes, all memories together.
    pub memory_bytes: usize,
    /// Entries of one table.
    pub table_entries: usize,
    /// Core instances per component.
    pub instances: usize,
    /// Bytes the guest may pass to one host function.
    pub hostcall_bytes: usize,
    /// Bytes the guest may pass to host functions in one call, all together.
    pub hostcall_bytes_total: u64,
    /// Handles alive at once.
    pub handles: usize,
    /// Bytes of log kept of one call; the rest is dropped and counted.
    pub log_bytes: usize,
    /// Lines of log kept of one call.
    pub log_lines: usize,
    /// Bytes of decisions, plan or report of one call.
    pub output_bytes: usize,
    /// Pieces (items, arguments, events) of one call.
    pub output_pieces: usize,
    /// What a conformance suite makes harder than it is.
    pub probe: Probe,
}

/// Difficulties that every plugin must take without a trap. The default makes none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Probe {
    /// Most items per page, instead of the contract's bound.
    pub page_items: Option<usize>,
    /// The number, from 1, of the host call that is refused if its answer can be a refusal. [`crate::Bill::host_calls`]
    /// says how many there are.
    pub refuse_call: Option<u64>,
}

impl Limits {
    /// For patterns.
    #[must_use]
    pub const fn pure() -> Self {
        Self {
            fuel_base: 20_000_000,
            fuel_per_item: 400_000,
            // 10,000 items and some. Such a step takes seconds, so the wall time is what a busy machine needs for it; a
            // loop in a small run meets the fuel long before.
            fuel_max: 5_000_000_000,
            wall: Duration::from_secs(10),
            memory_bytes: 64 << 20,
            table_entries: 20_000,
            instances: 64,
            hostcall_bytes: 8 << 20,
            hostcall_bytes_total: 64 << 20,
            handles: 4_096,
            log_bytes: 64 << 10,
            log_lines: 1_000,
            output_bytes: 4 << 20,
            output_pieces: 10_000,
            probe: Probe { page_items: None, refuse_call: None },
        }
    }

    /// For adapters.
    #[must_use]
    pub const fn effect() -> Self {
        Self {
            wall: Duration::from_secs(20),
            memory_bytes: 128 << 20,
            hostcall_bytes: 32 << 20,
            hostcall_bytes_total: 512 << 20,
            handles: 16_384,
            log_bytes: 1 << 20,
            log_lines: 10_000,
            output_bytes: 8 << 20,
            ..Self::pure()
        }
    }

    /// The part of them that goes into the record of a step over a run of this size. How many items a run may have is
    /// not the plugin host's business: 0.
    #[must_use]
    pub fn of_step(&self, items: usize) -> StepLimits {
        StepLimits {
            fuel: self.fuel(items),
            memory: self.memory_bytes as u64,
            wall_ms: u64::try_from(self.wall.as_millis()).unwrap_or(u64::MAX),
            output_bytes: self.output_bytes as u64,
            output_pieces: self.output_pieces as u64,
            items: 0,
        }
    }

    /// Limits under which a recorded step fails as it did: what is recorded, the rest as it is. Never more than these,
    /// so that a record cannot make a verifier do more work than its own limits allow.
    #[must_use]
    pub fn as_recorded(&self, recorded: &StepLimits) -> Self {
        let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        let fuel = recorded.fuel.min(self.fuel_max);
        Self {
            fuel_base: fuel,
            fuel_per_item: 0,
            fuel_max: fuel,
            memory_bytes: size(recorded.memory).min(self.memory_bytes),
            output_bytes: size(recorded.output_bytes).min(self.output_bytes),
            output_pieces: size(recorded.output_pieces).min(self.output_pieces),
            ..self.clone()
        }
    }

    pub(crate) fn fuel(&self, items: usize) -> u64 {
        let items = u64::try_from(items).unwrap_or(u64::MAX);
        self.fuel_base.saturating_add(self.fuel_per_item.saturating_mul(items)).min(self.fuel_max)
    }
}

/// Tables of one store.
const TABLES: usize = 64;

/// Memories of one store.
const MEMORIES: usize = 8;

/// Enforces bounds on memory and tables. A guest whose allocation fails dies with the same trap as one that panics,
/// so what was refused is the only way to tell the two apart.
#[derive(Debug)]
pub(crate) struct Limiter {
    memory_cap: usize,
    table_cap: usize,
    instances: usize,
    total: usize,
    pub(crate) peak: usize,
    pub(crate) refused: Option<Failure>,
}

impl Limiter {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            memory_cap: limits.memory_bytes,
            table_cap: limits.table_entries,
            instances: limits.instances,
            total: 0,
            peak: 0,
            refused: None,
        }
    }

    fn refuse(&mut self, what: Room, wanted: usize, limit: usize) {
        self.refused = Some(Failure::MemoryLimit { what, wanted: wanted as u64, limit: limit as u64 });
    }

    /// The bound that the engine names in `text`: numbers of instances, tables and memories are counted by it, not
    /// here.
    pub(crate) fn counted(&self, text: &str) -> Option<Failure> {
        let bound =
            |what, limit: usize| Failure::MemoryLimit { what, wanted: limit as u64 + 1, limit: limit as u64 };
        let (_, rest) = text.split_once("resource limit exceeded: ")?;
        if rest.starts_with("instance count") {
            Some(bound(Room::Instances, self.instances))
        } else if rest.starts_with("table count") {
            Some(bound(Room::Tables, TABLES))
        } else if rest.starts_with("memory count") {
            Some(bound(Room::Memories, MEMORIES))
        } else {
            None
        }
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let wanted = self.total.saturating_add(desired.saturating_sub(current));
        if wanted > self.memory_cap {
            self.refuse(Room::MemoryBytes, wanted, self.memory_cap);
            return Ok(false);
        }
        self.total = wanted;
        self.peak = self.peak.max(wanted);
        Ok(true)
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        if desired > self.table_cap {
            self.refuse(Room::TableEntries, desired, self.table_cap);
            return Ok(false);
        }
        Ok(true)
    }

    fn instances(&self) -> usize {
        self.instances
    }

    fn tables(&self) -> usize {
        TABLES
    }

    fn memories(&self) -> usize {
        MEMORIES
    }
}
