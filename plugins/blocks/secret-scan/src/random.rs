//! Whether a text looks like something that a machine drew at random.

/// Shannon entropy, bits per byte.
pub(crate) fn entropy(bytes: &[u8]) -> f64 {
    let mut counts = [0u32; 256];
    bytes.iter().for_each(|byte| counts[usize::from(*byte)] += 1);
    let total = bytes.len().max(1) as f64;
    counts
        .iter()
        .filter(|count| **count > 0)
        .map(|count| f64::from(*count) / total)
        .map(|share| -share * share.log2())
        .sum()
}

/// Texts that people write where a secret will be.
const PLACEHOLDERS: &[&str] = &[
    "example",
    "changeme",
    "change-me",
    "change_me",
    "placeholder",
    "xxxx",
    "dummy",
    "redacted",
    "replace",
    "****",
    "....",
    "000000",
    "1234567",
    "abcdefg",
    "deadbeef",
    "cafebabe",
    // The payload of the token that documentation about JWT shows everywhere.
    "eyjzdwiioiixmjm0nty3odkwi",
];

/// Further ones that are too short to be sure of inside a token.
const PLACEHOLDER_WORDS: &[&str] =
    &["your", "sample", "fake", "mock", "insert", "secret", "password", "todo", "token"];

pub(crate) fn is_placeholder(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes).to_ascii_lowercase();
    PLACEHOLDERS.iter().any(|word| text.contains(word))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Lower,
    Upper,
    Digit,
    Other,
}

fn class(byte: u8) -> Class {
    match byte {
        b'a'..=b'z' => Class::Lower,
        b'A'..=b'Z' => Class::Upper,
        b'0'..=b'9' => Class::Digit,
        _ => Class::Other,
    }
}

/// Whether a value next to a telling name is likely a secret and not a name, a path, a sentence or a placeholder.
pub(crate) fn is_secret_value(value: &[u8], min_length: usize, min_entropy: f64) -> bool {
    if value.len() < min_length || value.len() > 1_000 || is_placeholder(value) {
        return false;
    }
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=_-.~!@#%^&*:,;?|".contains(byte);
    if !value.iter().all(is_plain) {
        return false;
    }
    let text = String::from_utf8_lossy(value);
    let lower = text.to_ascii_lowercase();
    let is_place = ["/", "./", "../", "~/", "@"].iter().any(|start| text.starts_with(start))
        || text.contains("://")
        || text.contains("/../")
        || text.contains("::");
    if is_place || PLACEHOLDER_WORDS.iter().any(|word| lower.contains(word)) || is_uuid(&text) {
        return false;
    }
    // One part must be mixed by itself: `my-app-v2`, `2024-01-31` and `path/to/v1` are names.
    let is_mixed = |part: &str| {
        part.len() >= 8
            && part.bytes().any(|it| it.is_ascii_digit())
            && part.bytes().any(|it| it.is_ascii_alphabetic())
    };
    if !text.split(['-', '_', '.', '/', ':', ',']).any(is_mixed) {
        return false;
    }
    let is_hex = value.iter().all(u8::is_ascii_hexdigit);
    if is_hex {
        return value.len() >= 16 && entropy(value) >= (min_entropy - 0.5).min(3.0);
    }
    let digits = value.iter().filter(|it| it.is_ascii_digit()).count();
    let turns = value.windows(2).filter(|pair| class(pair[0]) != class(pair[1])).count();
    // Names in camelCase with one number turn rarely.
    let is_jumpy = turns * 2 >= value.len() - 1 || (digits >= 2 && turns * 4 >= value.len() - 1);
    is_jumpy && entropy(value) >= min_entropy
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}
