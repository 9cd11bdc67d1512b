//! Ids of maps. An output key is a path and may hold what an id may not.

use pangolin_pattern_sdk::{ID_BYTES_MAX, Texts};

/// Begins the id of a map.
pub(crate) const MAP: &str = "map-";

/// Id of the item that puts together.
pub(crate) const REDUCE: &str = "reduce";

/// Longest beginning of a key that is too long to be an id.
const BEGINNING_BYTES: usize = 80;

/// Whether an id may hold it and it is not the mark of another one.
const fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b':' | b'@' | b'+' | b'-')
}

/// [`is_plain`] of every byte.
static PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0;
    while byte < plain.len() {
        plain[byte] = is_plain(byte as u8);
        byte += 1;
    }
    plain
};

/// Id of the map of the output `key`, the `position`th of the splitter's outputs in order (from 0).
///
/// `map-` and the key, in which every byte that an id may not hold, every `~`, and every `.` behind a `.` is written as
/// `~` and two upper-case hexadecimal digits. Different keys have different ids, because this can be undone. When that is
/// longer than an id may be, it is cut after at most 80 bytes and `~i` and the position follow; `~i` is in no other id.
pub(crate) fn map_id(key: &str, position: usize) -> String {
    if !is_as_it_is(key) {
        return written_differently(key, position);
    }
    let mut id = String::with_capacity(MAP.len() + key.len());
    id.push_str(MAP);
    id.push_str(key);
    id
}

/// The ids of the maps of all these outputs.
pub(crate) fn map_ids(keys: &Texts) -> Texts {
    let mut ids = Texts::with_capacity(keys.len(), keys.bytes() + MAP.len() * keys.len());
    for (position, key) in keys.iter().enumerate() {
        if is_as_it_is(key) {
            ids.push_joined([MAP, key]);
        } else {
            ids.push(&written_differently(key, position));
        }
    }
    ids
}

/// Whether nothing of a key has to be written differently. So it mostly is, of thousands of them.
fn is_as_it_is(key: &str) -> bool {
    let mut before = b' ';
    MAP.len() + key.len() <= ID_BYTES_MAX
        && key.bytes().all(|byte| {
            let is_fine = PLAIN[usize::from(byte)] && (byte != b'.' || before != b'.');
            before = byte;
            is_fine
        })
}

fn written_differently(key: &str, position: usize) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut id = String::with_capacity(MAP.len() + key.len());
    id.push_str(MAP);
    // Where the encoded form of a byte begins, so that none is cut in two.
    let mut cut = id.len();
    let mut before = b' ';
    for byte in key.bytes() {
        if PLAIN[usize::from(byte)] && !(byte == b'.' && before == b'.') {
            id.push(char::from(byte));
        } else {
            id.push('~');
            id.push(char::from(DIGITS[usize::from(byte >> 4)]));
            id.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
        before = byte;
        if id.len() <= BEGINNING_BYTES {
            cut = id.len();
        }
    }
    if id.len() > ID_BYTES_MAX {
        id.truncate(cut);
        id.push_str("~i");
        id.push_str(&position.to_string());
    }
    id
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use pangolin_pattern_sdk::id_problem;
    use proptest::prelude::*;

    use super::{map_id, map_ids};

    #[test]
    fn keys_become_ids() {
        let long = "k".repeat(200);
        for (key, id) in [
            ("a.csv", "map-a.csv"),
            ("parts/a.csv", "map-parts~2Fa.csv"),
            ("a~b", "map-a~7Eb"),
            ("a..b", "map-a.~2Eb"),
            ("...", "map-.~2E~2E"),
            ("ä", "map-~C3~A4"),
            ("", "map-"),
            (&long, &format!("map-{}~i7", "k".repeat(76))),
        ] {
            assert_eq!(map_id(key, 7), id);
            assert_eq!(id_problem(id), None);
        }
    }

    proptest! {
        #[test]
        fn ids_are_legal_and_different(keys in prop::collection::btree_set("[a-c./~ä -]{0,60}|[./]{100,140}", 0..20)) {
            let mut seen: BTreeMap<String, &str> = BTreeMap::new();
            let ids = map_ids(&keys.iter().collect());
            prop_assert_eq!(ids.len(), keys.len());
            for (position, key) in keys.iter().enumerate() {
                let id = map_id(key, position);
                prop_assert_eq!(id_problem(&id), None);
                prop_assert_eq!(ids.get(position), Some(id.as_str()));
                prop_assert_eq!(seen.insert(id, key), None);
            }
        }
    }
}
