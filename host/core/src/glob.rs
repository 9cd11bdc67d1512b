//! The two pattern languages of grants (paths and arguments, hosts), and when one pattern covers another. One place, because
//! the rule that is shown at approval must be the rule that the worker enforces.
//!
//! A pattern is a list of tokens: path segments for files, arguments for programs. The token `**` stands for any
//! number of tokens, `*` inside another token for any run of characters of it. There is nothing else, on purpose:
//! a language this small has an exact test for "everything this one matches, that one matches too", and so an
//! intersection of grants can be a plain list of rules.

/// Any number of tokens.
pub const ANY: &str = "**";

/// Longest pattern in bytes. Matching costs at most its length times that of the text.
pub const PATTERN_BYTES_MAX: usize = 512;

/// What the text side of a match is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Text {
    /// A value that somebody uses.
    Value,
    /// Another pattern: its wildcards are only covered by equal or wider ones. A literal of the pattern never
    /// contains `*`, so a `*` of the text is eaten by a `*` of the pattern or by nothing; what stands for any text
    /// is thereby covered by what stands for any text, which is exactly containment.
    Pattern,
}

/// `*` in `pattern` eats any run of characters.
fn token_matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                p += 1;
                retry = Some((p, t));
            }
            Some(byte) if *byte == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match retry {
                Some((after, from)) => {
                    p = after;
                    t = from + 1;
                    retry = Some((after, t));
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

fn tokens_match<'t, P: AsRef<str>>(
    pattern: &[P],
    text: impl Fn(usize) -> &'t str,
    length: usize,
    kind: Text,
) -> bool {
    let one = |pattern: &str, text: &str| {
        if kind == Text::Pattern && text == ANY { false } else { token_matches(pattern, text) }
    };
    let (mut p, mut t) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while t < length {
        match pattern.get(p).map(AsRef::as_ref) {
            Some(ANY) => {
                p += 1;
                retry = Some((p, t));
            }
            Some(token) if one(token, text(t)) => {
                p += 1;
                t += 1;
            }
            _ => match retry {
                Some((after, from)) => {
                    p = after;
                    t = from + 1;
                    retry = Some((after, t));
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|token| token.as_ref() == ANY)
}

/// Whether a list of arguments fits a list of patterns.
#[must_use]
pub fn args_match<A: AsRef<str>>(pattern: &[String], args: &[A]) -> bool {
    tokens_match(pattern, |index| args[index].as_ref(), args.len(), Text::Value)
}

/// Whether every list that `inner` matches is matched by `outer`.
#[must_use]
pub fn args_cover(outer: &[String], inner: &[String]) -> bool {
    tokens_match(outer, |index| inner[index].as_str(), inner.len(), Text::Pattern)
}

/// Whether a path fits a pattern. The path must have passed [`path_problem`].
#[must_use]
pub fn path_matches(pattern: &[String], path: &str) -> bool {
    // Paths have few segments; most fit on the stack.
    let mut few: [&str; 16] = [""; 16];
    let mut count = 0;
    for segment in path.split('/') {
        match few.get_mut(count) {
            Some(place) => *place = segment,
            None => {
                let all: Vec<&str> = path.split('/').collect();
                return tokens_match(pattern, |index| all[index], all.len(), Text::Value);
            }
        }
        count += 1;
    }
    tokens_match(pattern, |index| few[index], count, Text::Value)
}

/// Whether every path that `inner` matches is matched by `outer`.
#[must_use]
pub fn path_covers(outer: &[String], inner: &[String]) -> bool {
    args_cover(outer, inner)
}

/// Why a path is not one inside the tree.
#[must_use]
pub fn path_problem(path: &str) -> Option<&'static str> {
    if path.is_empty() {
        return Some("is empty");
    }
    if path.contains('\0') {
        return Some("contains a zero byte");
    }
    path.split('/').find_map(|segment| match segment {
        "" => Some("is absolute or has an empty segment"),
        "." | ".." => Some("contains . or .."),
        _ => None,
    })
}

/// Why a token cannot be a pattern.
#[must_use]
pub fn token_problem(token: &str) -> Option<&'static str> {
    if token.len() > PATTERN_BYTES_MAX {
        return Some("is longer than 512 bytes");
    }
    if token != ANY && token.contains(ANY) {
        return Some("has ** beside other characters; ** must stand alone");
    }
    if token.chars().any(char::is_control) {
        return Some("contains a control character");
    }
    None
}

/// Whether `name` fits a host pattern: equal, or below `*.x.y`.
#[must_use]
pub fn host_matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_prefix("*.") {
        None => pattern == name,
        Some(parent) => name
            .strip_suffix(parent)
            .and_then(|rest| rest.strip_suffix('.'))
            .is_some_and(|below| !below.is_empty()),
    }
}

/// Whether every name that `inner` matches is matched by `outer`.
#[must_use]
pub fn host_covers(outer: &str, inner: &str) -> bool {
    // `*` is no character of a name, so a wildcard can only be below the parent of another wildcard.
    outer == inner || host_matches(outer, inner)
}

/// Why a text is not a host or host pattern.
#[must_use]
pub fn host_problem(text: &str) -> Option<&'static str> {
    let (name, wild) = text.strip_prefix("*.").map_or((text, false), |name| (name, true));
    if let Some(address) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return address.parse::<std::net::Ipv6Addr>().is_err().then_some("is not an IPv6 address");
    }
    if name.is_empty() || name.len() > 253 {
        return Some("is empty or longer than 253 bytes");
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if !name.split('.').all(label) {
        return Some("is not a host name in lower-case ASCII (or *.x.y); international names go in as xn--…");
    }
    if wild && (name.split('.').count() < 2 || name.parse::<std::net::Ipv4Addr>().is_ok()) {
        return Some("is too wide: *. needs at least two labels behind it, e.g. *.acme.dev");
    }
    None
}
