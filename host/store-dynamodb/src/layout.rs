//! What is stored where: keys, attributes and the packing of records. The table of the crate's documentation in code.

use std::collections::HashMap;

use aws_sdk_dynamodb::{primitives::Blob, types::AttributeValue};
use pangolin_core::ids::Digest;
use pangolin_ports::{
    batch_rules::RECORD_BYTES_MAX,
    commit_limits::{RECORD_OVERHEAD_BYTES, SEGMENT_BYTES_LEAST},
    run_store::{Cell, Head, Record},
};

/// Version of this layout, kept in the table.
pub(crate) const LAYOUT: i64 = 1;

/// Name of the partition key, a string.
pub const PARTITION_KEY: &str = "pk";

/// Name of the sort key, a string.
pub const SORT_KEY: &str = "sk";

/// Partition of all cells; sorted by key.
pub(crate) const CELLS: &str = "cell";

/// Partition of the ends of all streams; sorted by name.
pub(crate) const STREAMS: &str = "stream";

/// Most bytes of packed records in one item. DynamoDB takes 400 KB with names and keys.
///
/// A segment is closed when the next record does not fit, so it holds more than [`SEGMENT_BYTES_LEAST`].
pub(crate) const SEGMENT_BYTES: usize = SEGMENT_BYTES_LEAST + RECORD_BYTES_MAX + RECORD_OVERHEAD_BYTES;

/// An item as the SDK has it.
pub(crate) type Item = HashMap<String, AttributeValue>;

pub(crate) fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

pub(crate) fn number(value: impl ToString) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

pub(crate) fn bytes(value: impl Into<Vec<u8>>) -> AttributeValue {
    AttributeValue::B(Blob::new(value))
}

/// A key of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) partition: String,
    pub(crate) sort: String,
}

impl Key {
    pub(crate) fn layout() -> Self {
        Self { partition: "meta".to_owned(), sort: "layout".to_owned() }
    }

    pub(crate) fn batch(id: &str) -> Self {
        Self { partition: format!("batch/{id}"), sort: "-".to_owned() }
    }

    pub(crate) fn cell(key: &str) -> Self {
        Self { partition: CELLS.to_owned(), sort: key.to_owned() }
    }

    pub(crate) fn head(stream: &str) -> Self {
        Self { partition: STREAMS.to_owned(), sort: stream.to_owned() }
    }

    /// The segment that ends with record `last`.
    pub(crate) fn segment(stream: &str, last: u64) -> Self {
        Self { partition: segments_of(stream), sort: segment_sort(last) }
    }

    pub(crate) fn item(&self) -> Item {
        HashMap::from([
            (PARTITION_KEY.to_owned(), text(&self.partition)),
            (SORT_KEY.to_owned(), text(&self.sort)),
        ])
    }
}

/// Partition of a stream's segments.
pub(crate) fn segments_of(stream: &str) -> String {
    format!("seg/{stream}")
}

/// Sort key of a segment. It names the last record, so the first segment at or behind this key holds the record.
pub(crate) fn segment_sort(last: u64) -> String {
    format!("{last:020}")
}

fn number_of(item: &Item, name: &str) -> Result<u64, String> {
    let text = item.get(name).and_then(|value| value.as_n().ok());
    text.and_then(|text| text.parse().ok()).ok_or_else(|| format!("attribute {name:?} is no count"))
}

fn bytes_of<'a>(item: &'a Item, name: &str) -> Result<&'a [u8], String> {
    let bytes = item.get(name).and_then(|value| value.as_b().ok());
    bytes.map(AsRef::as_ref).ok_or_else(|| format!("attribute {name:?} is missing or no binary"))
}

/// The sort key of an item.
pub(crate) fn sort_of(item: &Item) -> Result<&str, String> {
    let text = item.get(SORT_KEY).and_then(|value| value.as_s().ok());
    text.map(String::as_str).ok_or_else(|| "it has no sort key".to_owned())
}

/// Version of the layout that an item of [`Key::layout`] names.
pub(crate) fn layout_of(item: &Item) -> Result<i64, String> {
    number_of(item, "v").map(|version| i64::try_from(version).unwrap_or(i64::MAX))
}

/// A cell, unless the item is the trace of a deleted one.
pub(crate) fn cell_of(item: &Item) -> Result<Option<Cell>, String> {
    if !item.contains_key("b") {
        return Ok(None);
    }
    Ok(Some(Cell { version: number_of(item, "v")?, value: bytes_of(item, "b")?.to_vec() }))
}

/// Version of a cell, unless it is deleted.
pub(crate) fn version_of(item: &Item) -> Result<Option<u64>, String> {
    if item.contains_key("b") { number_of(item, "v").map(Some) } else { Ok(None) }
}

/// End of a stream.
pub(crate) fn head_of(item: &Item) -> Result<Head, String> {
    let hash = <[u8; 32]>::try_from(bytes_of(item, "h")?)
        .map_err(|_| "attribute \"h\" is not 32 bytes long".to_owned())?;
    Ok(Head { len: number_of(item, "n")?, hash: Some(Digest::from_bytes(hash)) })
}

/// Consecutive records in the bytes of one item: for each the hash, the length (32 bits, big endian) and the bytes.
pub(crate) struct Segment {
    pub(crate) count: u64,
    pub(crate) packed: Vec<u8>,
}

/// Packs records into as few segments as fit.
pub(crate) fn pack(records: &[(Digest, Vec<u8>)]) -> Vec<Segment> {
    let mut segments: Vec<Segment> = Vec::new();
    for (hash, bytes) in records {
        let size = RECORD_OVERHEAD_BYTES + bytes.len();
        let segment = match segments.last_mut() {
            Some(last) if last.packed.len() + size <= SEGMENT_BYTES => last,
            _ => {
                segments.push(Segment { count: 0, packed: Vec::new() });
                let Some(new) = segments.last_mut() else { continue };
                new
            }
        };
        segment.count += 1;
        segment.packed.extend_from_slice(hash.as_bytes());
        // `check_batch` has limited the length to far less than 32 bits.
        segment.packed.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
        segment.packed.extend_from_slice(bytes);
    }
    segments
}

/// Records of a segment's item, with their positions.
pub(crate) fn unpack(item: &Item) -> Result<Vec<Record>, String> {
    let last: u64 = sort_of(item)?.parse().map_err(|_| "its sort key is no position".to_owned())?;
    let count = number_of(item, "n")?;
    let packed = bytes_of(item, "r")?;
    let misfit = || format!("it does not hold the {count} records that it names");
    let first = (last + 1).checked_sub(count).ok_or_else(misfit)?;
    let mut records = Vec::new();
    let mut rest = packed;
    while let Some((hash, after)) = rest.split_first_chunk::<32>() {
        let (length, after) = after.split_first_chunk::<4>().ok_or_else(misfit)?;
        let (bytes, after) =
            after.split_at_checked(u32::from_be_bytes(*length) as usize).ok_or_else(misfit)?;
        let seq = first + records.len() as u64;
        records.push(Record { seq, hash: Digest::from_bytes(*hash), bytes: bytes.to_vec() });
        rest = after;
    }
    if rest.is_empty() && records.len() as u64 == count && count > 0 { Ok(records) } else { Err(misfit()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(size: usize, fill: u8) -> (Digest, Vec<u8>) {
        let bytes = vec![fill; size];
        (Digest::of(&bytes), bytes)
    }

    fn stored(segment: Segment, last: u64) -> Item {
        let mut item = Key::segment("s", last).item();
        item.insert("n".to_owned(), number(segment.count));
        item.insert("r".to_owned(), bytes(segment.packed));
        item
    }

    #[test]
    fn records_come_back_with_their_positions() {
        let records = [record(0, 1), record(RECORD_BYTES_MAX, 2), record(7, 3)];
        let mut segments = pack(&records);
        assert_eq!(segments.len(), 1);
        let back = unpack(&stored(segments.remove(0), 12)).unwrap();
        let expected = (10..).zip(&records);
        let expected: Vec<_> =
            expected.map(|(seq, (hash, bytes))| Record { seq, hash: *hash, bytes: bytes.clone() }).collect();
        assert_eq!(back, expected);
    }

    #[test]
    fn segments_are_full_but_below_the_limit_of_an_item() {
        let records: Vec<_> =
            (0..97).map(|index| record(RECORD_BYTES_MAX - index * 613 % 50_000, index as u8)).collect();
        let segments = pack(&records);
        let (last, full) = segments.split_last().unwrap();
        assert!(full.iter().all(|segment| segment.packed.len() > SEGMENT_BYTES_LEAST));
        assert!(segments.iter().all(|segment| segment.packed.len() + 4_096 < 400 << 10));
        assert!(!full.is_empty() && last.count > 0);
        assert_eq!(segments.iter().map(|segment| segment.count).sum::<u64>(), 97);
        assert!(pack(&[]).is_empty());
    }

    #[test]
    fn damaged_segments_are_noticed() {
        let whole = || pack(&[record(9, 1), record(5, 2)]).remove(0);
        assert!(unpack(&stored(whole(), 1)).is_ok());
        let cut = Segment { packed: whole().packed[..60].to_vec(), ..whole() };
        let miscounted = Segment { count: 3, ..whole() };
        let early = stored(whole(), 0);
        for (what, item) in [
            ("cut", stored(cut, 1)),
            ("miscounted", stored(miscounted, 4)),
            ("more records than positions", early),
            ("empty", stored(Segment { count: 0, packed: Vec::new() }, 1)),
            ("nothing but a key", Key::segment("s", 1).item()),
        ] {
            assert!(unpack(&item).is_err(), "{what}");
        }
    }
}
