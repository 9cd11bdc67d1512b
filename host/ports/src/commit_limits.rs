//! How much one commit may hold, and what a batch takes of it.
//!
//! A store states its limits ([`RunStore::limits`](crate::run_store::RunStore::limits)); whoever builds batches cuts what
//! is too large where it may be cut. [`CommitCost`] is one measure for all stores. It is an upper bound of what any of
//! them really writes, so a batch within the limits is never refused for its size.

use crate::{
    commit_meter::CommitMeter,
    run_store::{Batch, Guard, RunStoreError, Write},
};

/// Records packed together are counted as one action for each started piece of this many bytes. A store that packs must
/// put at least this much into one piece before it starts the next.
pub const SEGMENT_BYTES_LEAST: usize = 240_000;

/// Bytes counted for each record besides its own: hash and length.
pub const RECORD_OVERHEAD_BYTES: usize = 36;

/// Bytes counted for each action besides names and values: names of attributes, numbers, hashes.
pub const ACTION_OVERHEAD_BYTES: usize = 128;

/// The most that one commit may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommitLimits {
    /// Most [`CommitCost::actions`].
    pub actions: usize,
    /// Most [`CommitCost::bytes`].
    pub bytes: usize,
}

impl CommitLimits {
    /// As much as memory holds.
    pub const UNLIMITED: Self = Self { actions: usize::MAX, bytes: usize::MAX };

    /// What every store takes. A DynamoDB transaction is the smallest that we know: 100 actions and 4 MB. Whether bytes count
    /// there as they are or as they are sent (base64, a third more) is not written anywhere; 3,000,000 are below in both readings.
    pub const LEAST: Self = Self { actions: 100, bytes: 3_000_000 };

    /// Whether a batch of this cost is small enough.
    #[must_use]
    pub fn admit(&self, cost: CommitCost) -> bool {
        cost.actions <= self.actions && cost.bytes <= self.bytes
    }

    /// Whether the batch is small enough.
    #[must_use]
    pub fn fits(&self, batch: &Batch) -> bool {
        self.admit(CommitCost::of(batch))
    }

    /// Refuses a batch that is too large; for stores with limits.
    ///
    /// # Errors
    /// [`RunStoreError::InvalidBatch`] with both figures.
    pub fn check(&self, batch: &Batch) -> Result<(), RunStoreError> {
        let cost = CommitCost::of(batch);
        if self.admit(cost) {
            return Ok(());
        }
        let problem = format!(
            "it takes {} actions and {} bytes, the store takes {} actions and {} bytes in one commit; cut it",
            cost.actions, cost.bytes, self.actions, self.bytes
        );
        Err(RunStoreError::InvalidBatch { id: batch.id.clone(), problem })
    }
}

/// What a batch takes of [`CommitLimits`].
///
/// Actions: one for the batch id; one for each cell that is guarded or written, however often; one for the end of each
/// stream that is guarded or appended to; one for each started [`SEGMENT_BYTES_LEAST`] of records of a stream.
/// Bytes: names, values, records, [`RECORD_OVERHEAD_BYTES`] for each record and [`ACTION_OVERHEAD_BYTES`] for each action.
///
/// More guards, writes or records never cost less, and one more record costs at most one action more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CommitCost {
    /// Things that the commit checks or writes.
    pub actions: usize,
    /// Their size.
    pub bytes: usize,
}

impl CommitCost {
    /// Cost of a batch: what [`CommitMeter`] counts of it. Takes time in its size.
    #[must_use]
    pub fn of(batch: &Batch) -> Self {
        let mut meter = CommitMeter::new(batch.id.len());
        for write in &batch.writes {
            match write {
                Write::Put { key, value } => meter.cell(key, value.len()),
                Write::Delete(key) => meter.cell(key, 0),
            }
        }
        for guard in &batch.guards {
            match guard {
                Guard::HeadIs { stream, .. } => meter.stream(stream),
                Guard::Absent(key) | Guard::VersionIs { key, .. } => meter.cell(key, 0),
            }
        }
        for append in &batch.appends {
            meter.stream(&append.stream);
            for (_, bytes) in &append.records {
                meter.record(&append.stream, bytes.len());
            }
        }
        meter.cost()
    }
}

#[cfg(test)]
mod tests {
    use pangolin_core::ids::Digest;

    use super::*;
    use crate::run_store::{Append, Head};

    fn absent(key: &str) -> Guard {
        Guard::Absent(key.to_owned())
    }

    fn check(what: &str, batch: &Batch, actions: usize, bytes: usize) {
        let cost = CommitCost::of(batch);
        let expected = CommitCost { actions, bytes: bytes + actions * ACTION_OVERHEAD_BYTES };
        assert_eq!(cost, expected, "{what}");
    }

    #[test]
    fn costs_are_as_documented() {
        let id = || Batch { id: "id".to_owned(), ..Batch::default() };
        check("nothing but an id", &id(), 1, 2);
        let put = |key: &str| Write::Put { key: key.to_owned(), value: vec![0; 10] };
        let guards = vec![absent("k"), absent("k"), absent("other")];
        check(
            "a guard on a written cell is free",
            &Batch { writes: vec![put("k")], guards, ..id() },
            3,
            2 + 11 + 5,
        );
        let delete = Batch { writes: vec![Write::Delete("key".to_owned())], ..id() };
        check("a deletion", &delete, 2, 2 + 3);
        let head = Guard::HeadIs { stream: "s".to_owned(), head: Head::default() };
        let append = |sizes: &[usize]| Batch {
            guards: vec![head.clone()],
            appends: vec![Append {
                stream: "s".to_owned(),
                records: sizes.iter().map(|size| (Digest::of(b""), vec![0; *size])).collect(),
            }],
            ..id()
        };
        check("an append of nothing is a guard", &append(&[]), 2, 3);
        check("end and one segment", &append(&[5, 0]), 3, 2 + 2 + 5 + 2 * RECORD_OVERHEAD_BYTES);
        let full = SEGMENT_BYTES_LEAST - RECORD_OVERHEAD_BYTES;
        check("a full segment starts the next", &append(&[full]), 4, 2 + 3 + SEGMENT_BYTES_LEAST);
        check("almost full", &append(&[full - 1]), 3, 2 + 2 + SEGMENT_BYTES_LEAST - 1);
    }

    #[test]
    fn a_batch_beyond_a_limit_is_refused_with_the_figures() {
        let batch = Batch { id: "id".to_owned(), guards: vec![absent("k")], ..Batch::default() };
        let cost = CommitCost::of(&batch);
        let exact = CommitLimits { actions: cost.actions, bytes: cost.bytes };
        assert!(exact.fits(&batch) && exact.check(&batch).is_ok() && CommitLimits::UNLIMITED.fits(&batch));
        for small in [
            CommitLimits { actions: cost.actions - 1, ..exact },
            CommitLimits { bytes: cost.bytes - 1, ..exact },
        ] {
            let refused = small.check(&batch).map_err(|error| error.to_string());
            let figures = format!("{} actions and {} bytes", cost.actions, cost.bytes);
            assert!(matches!(&refused, Err(text) if text.contains(&figures)), "{refused:?}");
        }
    }
}
