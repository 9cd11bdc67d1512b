//! Measuring a batch while it grows.

use std::collections::{HashMap, HashSet};

use crate::commit_limits::{ACTION_OVERHEAD_BYTES, CommitCost, RECORD_OVERHEAD_BYTES, SEGMENT_BYTES_LEAST};

/// [`CommitCost`] of a batch that is being built, without the batch. What is counted here and then put into one batch costs
/// exactly this much; a cell that is written twice and merged costs less.
#[derive(Debug, Clone, Default)]
pub struct CommitMeter {
    cost: CommitCost,
    cells: HashSet<String>,
    /// Bytes of the records of each stream.
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
        if !self.cells.contains(key) {
            self.cells.insert(key.to_owned());
            self.action(key.len());
        }
        self.cost.bytes = self.cost.bytes.saturating_add(value_bytes);
    }

    /// The head of a stream is guarded.
    pub fn stream(&mut self, stream: &str) {
        if !self.streams.contains_key(stream) {
            self.streams.insert(stream.to_owned(), 0);
            self.action(stream.len());
        }
    }

    /// A record of so many bytes is appended to a stream, whose head is guarded.
    pub fn record(&mut self, stream: &str, bytes: usize) {
        self.stream(stream);
        let bytes = bytes.saturating_add(RECORD_OVERHEAD_BYTES);
        // Nothing takes no piece; a record is never nothing.
        let pieces = |bytes: usize| if bytes == 0 { 0 } else { 1 + bytes / SEGMENT_BYTES_LEAST };
        let Some(sum) = self.streams.get_mut(stream) else { return };
        let before = *sum;
        *sum = before.saturating_add(bytes);
        let new = pieces(*sum) - pieces(before);
        for _ in 0..new {
            self.action(stream.len());
        }
        self.cost.bytes = self.cost.bytes.saturating_add(bytes);
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

    /// The documented measure of a batch with one append for each stream, counted at once and not while it grows.
    fn straight(batch: &Batch) -> CommitCost {
        let mut cells = HashSet::new();
        let mut streams = HashSet::new();
        let mut bytes = 0;
        for write in &batch.writes {
            match write {
                Write::Put { key, value } => {
                    cells.insert(key);
                    bytes += value.len();
                }
                Write::Delete(key) => {
                    cells.insert(key);
                }
            }
        }
        for guard in &batch.guards {
            match guard {
                Guard::HeadIs { stream, .. } => streams.insert(stream),
                Guard::Absent(key) | Guard::VersionIs { key, .. } => cells.insert(key),
            };
        }
        let mut names = vec![&batch.id];
        for Append { stream, records } in &batch.appends {
            streams.insert(stream);
            let packed: usize = records.iter().map(|(_, record)| record.len() + RECORD_OVERHEAD_BYTES).sum();
            bytes += packed;
            let pieces = if records.is_empty() { 0 } else { 1 + packed / SEGMENT_BYTES_LEAST };
            names.extend(std::iter::repeat_n(stream, pieces));
        }
        names.extend(cells.into_iter().chain(streams));
        let actions = names.len();
        let names: usize = names.into_iter().map(String::len).sum();
        CommitCost { actions, bytes: bytes + names + actions * ACTION_OVERHEAD_BYTES }
    }

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
            prop_assert_eq!(meter.cost(), straight(&batch));
            // A stream may also be guarded and not appended to, or appended nothing.
            batch.guards.push(Guard::HeadIs { stream: "guarded".to_owned(), head: Head::default() });
            batch.appends.push(Append { stream: "nothing".to_owned(), records: Vec::new() });
            batch.writes.push(Write::Delete("gone".to_owned()));
            prop_assert_eq!(CommitCost::of(&batch), straight(&batch));
        }
    }
}
