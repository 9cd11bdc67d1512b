//! Names of messages in an inbox, and what stands for a thing there that has no such name.

use std::fmt::Write as _;

use pangolin_core::ids::{Digest, IdError, RunId};

/// Longest escaped name before it is cut; the longest file name of common file systems is 255.
const ESCAPED_MAX: usize = 180;

/// Longest name under which there can be an answer.
const KEY_BYTES_MAX: usize = 254;

/// Checks a message name. All id types share one set of rules.
///
/// # Errors
/// What the id rules say about it.
pub fn check_name(name: &str) -> Result<(), IdError> {
    RunId::new(name).map(drop)
}

/// What stands for a file or object whose name is no message name: safe to print and to use as a name, and no valid
/// name can be it. `%` first, other bytes than letters, digits, `-` and `_` as `%XX`; a long one ends in its digest.
#[must_use]
pub fn escape(name: &[u8]) -> String {
    let mut text = String::from("%");
    for byte in name {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') {
            text.push(char::from(*byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(text, "%{byte:02X}");
        }
    }
    if text.len() > ESCAPED_MAX {
        text.truncate(ESCAPED_MAX);
        text.push_str("%-");
        text.push_str(&Digest::of(name).hex()[..32]);
    }
    text
}

/// Whether there can be an answer under this name: it is a message name or an escaped one. Safe as a file name.
#[must_use]
pub fn can_be_answered(name: &str) -> bool {
    let escaped = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'%' | b'-' | b'_');
    check_name(name).is_ok()
        || (name.len() <= KEY_BYTES_MAX && name.starts_with('%') && name.bytes().all(escaped))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_names_can_be_answered_and_are_never_message_names() {
        let long = "x y".repeat(300);
        for name in ["a b", "../x", "ä", "%41", "..", "dir/plan.json", &long] {
            let escaped = escape(name.as_bytes());
            assert!(can_be_answered(&escaped), "{escaped}");
            assert!(check_name(&escaped).is_err(), "{escaped}");
            assert!(escaped.len() <= 220 && !escaped.contains(['/', '.']), "{escaped}");
        }
        assert_eq!(escape(b"a b"), "%a%20b");
        assert_ne!(escape(b"a b"), escape(b"a%20b"));
        assert_eq!(escape(b"\xff"), "%%FF");
    }

    #[test]
    fn nothing_else_can_be_answered() {
        for name in ["%a/../b", "", "..", "%\0", "a b", &format!("%{}", "a".repeat(254))] {
            assert!(!can_be_answered(name), "{name}");
        }
        assert!(can_be_answered("plan-1") && can_be_answered(&format!("%{}", "a".repeat(253))));
    }
}
