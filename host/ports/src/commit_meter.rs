//! Measuring a batch while it grows.

use std::collections::{HashMap, HashSet};

use crate::commit_limits::{ACTION_OVERHEAD_BYTES, CommitCost, RECORD_OVERHEAD_BYTES, SEGMENT_BYTES_LEAST};

/// [`CommitCost`] of a batch that is being built, without the batch. What is counted here and then put into one batch costs
/// exactly this much; a cell that is written twice and merged costs less.
#[derive(Debug, Clone, Default)]
pub struct CommitMeter {
    cost: CommitCost,
    cells: HashSet<String>,
    streams: HashMap<String, usize>,
}

impl CommitMeter {
    /// A batch with nothing but an id of so many bytes.
    #[must_use]
    pub fn new(id_bytes: usize) -> Self {
        let mut meter = Self::default();
        meter.action(id_bytes);
        meter
    }

    /// A cell is guarded (`value_bytes` 0), deleted (0) or written.
    pub fn cell(&mut self, key: &str, value_bytes: usize) {
        if self.cells.insert(key.to_owned()) {
            self.action(key.len());
        }
        self.cost.bytes = self.cost.bytes.saturating_add(value_bytes);
    }

    /// A record of so many bytes is appended to a stream, whose head is guarded.
    pub fn record(&mut self, stream: &str, bytes: usize) {
        let bytes = bytes.saturating_add(RECORD_OVERHEAD_BYTES);
        let before = self.streams.get(stream).copied();
        let now = before.unwrap_or(0).saturating_add(bytes);
        let pieces = |bytes: usize| 1 + bytes / SEGMENT_BYTES_LEAST;
        let new = match before {
            // The end of the stream, and its pieces.
            None => 1 + pieces(now),
            Some(before) => pieces(now) - pieces(before),
        };
        for _ in 0..new {
            self.action(stream.len());
        }
        self.cost.bytes = self.cost.bytes.saturating_add(bytes);
        self.streams.insert(stream.to_owned(), now);
    }

    /// What was counted so far.
    #[must_use]
    pub const fn cost(&self) -> CommitCost {
        self.cost
    }

    fn action(&mut self, name_bytes: usize) {
        self.cost.actions += 1;
        self.cost.bytes = self.cost.bytes.saturating_add(name_bytes).saturating_add(ACTION_OVERHEAD_BYTES);
    }
}

#[cfg(test)]
mod tests {
    use pangolin_core::ids::Digest;
    use proptest::prelude::*;

    use super::*;
    use crate::run_store::{Append, Batch, Guard, Head, Write};

    proptest! {
        #[test]
        fn it_agrees_with_the_cost_of_the_batch(
            guarded in proptest::collection::btree_set("[a-d]{1,3}", 0..6),
            written in proptest::collection::btree_map("[a-d]{1,3}", 0_usize..70_000, 0..6),
            streams in proptest::collection::btree_map("[a-c]{1,2}", proptest::collection::vec(0_usize..60_000, 1..20), 0..4),
        ) {
            let mut meter = CommitMeter::new(5);
            let mut batch = Batch { id: "batch".to_owned(), ..Batch::default() };
            for key in guarded {
                meter.cell(&key, 0);
                batch.guards.push(Guard::Absent(key));
            }
            for (key, bytes) in written {
                meter.cell(&key, bytes);
                batch.writes.push(Write::Put { key, value: vec![0; bytes] });
            }
            for (stream, sizes) in streams {
                for bytes in &sizes {
                    meter.record(&stream, *bytes);
                }
                batch.guards.push(Guard::HeadIs { stream: stream.clone(), head: Head::default() });
                let records = sizes.iter().map(|bytes| (Digest::of(b""), vec![0; *bytes])).collect();
                batch.appends.push(Append { stream, records });
            }
            prop_assert_eq!(meter.cost(), CommitCost::of(&batch));
        }
    }
}
