//! Names of messages.

use std::fmt::Write as _;

use pangolin_core::ids::{Digest, IdError, RunId};

/// Longest escaped name.
const ESCAPED_MAX: usize = 180;

/// Checks a message name. All id types share one set of rules.
pub(crate) fn check_name(name: &str) -> Result<(), IdError> {
    RunId::new(name).map(drop)
}

/// The name of an object that is no id, as something that is safe to print and that no valid name can be: `%` first, other
/// bytes than letters, digits, `-` and `_` as `%XX`.
pub(crate) fn escape(name: &str) -> String {
    let mut text = String::from("%");
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') {
            text.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(text, "%{byte:02X}");
        }
    }
    if text.len() > ESCAPED_MAX {
        text.truncate(ESCAPED_MAX);
        text.push_str("%-");
        text.push_str(&Digest::of(name.as_bytes()).hex()[..32]);
    }
    text
}

/// Whether there can be an answer under this name: a message name or an escaped one.
pub(crate) fn can_be_answered(text: &str) -> bool {
    let escaped = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'%' | b'-' | b'_');
    check_name(text).is_ok() || (text.len() < 255 && text.starts_with('%') && text.bytes().all(escaped))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_names_can_be_answered_and_are_never_message_names() {
        let long = "x y".repeat(300);
        for name in ["a b", "../x", "ä", "%41", "..", "dir/plan.json", &long] {
            let escaped = escape(name);
            assert!(can_be_answered(&escaped), "{escaped}");
            assert!(check_name(&escaped).is_err(), "{escaped}");
            assert!(escaped.len() <= 220 && !escaped.contains(['/', '.']), "{escaped}");
        }
        assert_ne!(escape("a b"), escape("a%20b"));
        assert!(
            !can_be_answered("%a/../b")
                && !can_be_answered("")
                && !can_be_answered("..")
                && !can_be_answered("%\0")
        );
    }
}
