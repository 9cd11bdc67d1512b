//! Counts what the store asks of DynamoDB.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use aws_sdk_dynamodb::types::ConsumedCapacity;

/// What a request was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// Finding out the layout of the table.
    Open,
    /// `commit`: one transaction for each try.
    Commit,
    /// `was_committed`, also when a commit asks it for itself.
    WasCommitted,
    /// `head`.
    Head,
    /// `read`: one query for each megabyte.
    Read,
    /// `streams`: one query for each megabyte.
    Streams,
    /// `get`.
    Get,
    /// `scan`: one query for each megabyte.
    Scan,
}

impl Operation {
    /// Name for reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Commit => "commit",
            Self::WasCommitted => "was_committed",
            Self::Head => "head",
            Self::Read => "read",
            Self::Streams => "streams",
            Self::Get => "get",
            Self::Scan => "scan",
        }
    }
}

/// What was used.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Usage {
    /// Requests sent, repetitions included.
    pub requests: u64,
    /// Read units, as DynamoDB reported them with its answers. Errors report nothing, so what lost answers and cancelled
    /// transactions took is missing.
    pub read_units: f64,
    /// Write units, likewise. A transaction takes two for each kilobyte of each item.
    pub write_units: f64,
}

/// Requests and consumed capacity, for each operation.
#[derive(Debug, Default)]
pub struct Meter {
    used: Mutex<BTreeMap<Operation, Usage>>,
}

/// Which units a request takes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Units {
    Read,
    Write,
}

impl Meter {
    pub(crate) fn request(&self, operation: Operation) {
        self.change(operation, |usage| usage.requests += 1);
    }

    pub(crate) fn answer<'a>(
        &self,
        operation: Operation,
        units: Units,
        consumed: impl IntoIterator<Item = &'a ConsumedCapacity>,
    ) {
        let sum: f64 = consumed.into_iter().filter_map(|capacity| capacity.capacity_units).sum();
        self.change(operation, |usage| match units {
            Units::Read => usage.read_units += sum,
            Units::Write => usage.write_units += sum,
        });
    }

    fn change(&self, operation: Operation, change: impl FnOnce(&mut Usage)) {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        change(used.entry(operation).or_default());
    }

    /// What was used since the store was opened, or since the last call of [`Meter::take`].
    #[must_use]
    pub fn used(&self) -> BTreeMap<Operation, Usage> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Like [`Meter::used`], and starts from zero again.
    pub fn take(&self) -> BTreeMap<Operation, Usage> {
        std::mem::take(&mut *self.used.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
