//! Ids of added items. They must be deterministic: the same run gives the same ids, whoever asks and how often.

/// Longest item id in bytes.
pub const ID_BYTES_MAX: usize = 128;

/// Why a text cannot be an item id; `None` when it can.
#[must_use]
pub fn id_problem(text: &str) -> Option<String> {
    if text.is_empty() {
        return Some("an id must not be empty".into());
    }
    if text.len() > ID_BYTES_MAX {
        return Some(format!("an id of {} bytes is too long, the limit is {ID_BYTES_MAX}", text.len()));
    }
    if text.as_bytes().windows(2).any(|pair| pair == b"..") {
        return Some("an id must not contain \"..\"".into());
    }
    let is_legal = |(at, found): (usize, char)| {
        found.is_ascii_alphanumeric() || (at > 0 && matches!(found, '.' | '_' | '~' | ':' | '@' | '+' | '-'))
    };
    let bad = text.char_indices().find(|found| !is_legal(*found))?;
    Some(format!("an id must not contain {:?} there", bad.1))
}

/// Name and generation of an item: `review` is the first of its lineage, `review~2` the second.
#[must_use]
pub fn generation(id: &str) -> (&str, u32) {
    let numbered = id.rsplit_once('~').and_then(|(base, digits)| {
        let is_number = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
        let number = digits.parse::<u32>().ok().filter(|number| is_number && *number >= 2)?;
        (!base.is_empty() && !digits.starts_with('0')).then_some((base, number))
    });
    numbered.unwrap_or((id, 1))
}

/// Id of one generation of a lineage: `review`, `review~2`, `review~3`.
#[must_use]
pub fn copy_id(base: &str, generation: u32) -> String {
    if generation <= 1 { base.to_owned() } else { format!("{base}~{generation}") }
}

/// Id of the `number`th fix of a lineage, from 1: `review-fix-1`.
#[must_use]
pub fn fix_id(base: &str, number: u32) -> String {
    format!("{base}-fix-{number}")
}
