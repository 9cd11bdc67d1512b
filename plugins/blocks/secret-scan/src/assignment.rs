//! Values next to a telling name: `client_secret = "…"`, `API_TOKEN: …`, `"password": "…"`.

use aho_corasick::AhoCorasick;
use pangolin_block_sdk::{Fault, fault};

use crate::{params::Params, random::is_secret_value, scanner::FileKind};

/// A value that is likely a secret.
pub(crate) struct Value {
    pub(crate) rule: &'static str,
    pub(crate) start: usize,
    pub(crate) end: usize,
    /// The telling word, from a fixed list.
    pub(crate) shown: &'static str,
}

/// Words that make a name telling, when they are its last one.
const LAST: &[&str] = &[
    "secret",
    "password",
    "passwd",
    "passphrase",
    "passcode",
    "pwd",
    "token",
    "apikey",
    "credential",
    "credentials",
    "secretkey",
    "accesskey",
    "privatekey",
    "authkey",
];

/// Words that make `key` telling, when they stand before it.
const BEFORE_KEY: &[&str] = &[
    "api",
    "access",
    "secret",
    "private",
    "auth",
    "encryption",
    "signing",
    "account",
    "master",
    "storage",
    "service",
    "license",
    "hmac",
];

/// Words after the telling one that change nothing.
const TAIL: &[&str] = &[
    "value",
    "string",
    "str",
    "base",
    "default",
    "prod",
    "production",
    "staging",
    "dev",
    "live",
    "old",
    "new",
    "text",
    "bytes",
    "hex",
    "base64",
    "b64",
    "header",
];

/// Words before `token` that make it harmless.
const HARMLESS: &[&str] = &[
    "next",
    "page",
    "continuation",
    "cancel",
    "cancellation",
    "public",
    "sync",
    "resume",
    "prev",
    "cursor",
    "csrf",
    "start",
    "end",
];

/// What every telling name has inside.
const STEMS: &[&str] =
    &["bearer ", "secret", "passw", "passphrase", "passcode", "pwd", "token", "key", "credential"];

/// How far a name or value is followed. Longer ones are none, and a line can be full of beginnings.
const REACH: usize = 1_002;

/// Place of the stem that a value follows directly.
const BEARER: usize = 0;

/// The rule over names and values.
pub(crate) struct Assignments {
    words: AhoCorasick,
    min_length: usize,
    min_entropy: f64,
}

impl Assignments {
    pub(crate) fn new(params: &Params) -> Result<Self, Fault> {
        let words = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .build(STEMS)
            .map_err(|error| fault("internal", error.to_string()))?;
        Ok(Self { words, min_length: params.min_length, min_entropy: params.min_entropy })
    }

    /// Calls `found` for every likely secret of a line.
    pub(crate) fn scan(&self, line: &[u8], kind: FileKind, mut found: impl FnMut(Value)) {
        let mut until = 0;
        for stem in self.words.find_iter(line) {
            if stem.start() < until {
                continue;
            }
            let (shown, value) = if stem.pattern().as_usize() == BEARER {
                ("bearer", bearer(line, stem.end()))
            } else {
                let start = stem.start()
                    - line[..stem.start()].iter().rev().take(121).take_while(|it| is_name(**it)).count();
                let end =
                    stem.end() + line[stem.end()..].iter().take(121).take_while(|it| is_name(**it)).count();
                until = end;
                let name = line.get(start..end).filter(|name| name.len() <= 120);
                let Some(shown) = name.and_then(telling_word) else { continue };
                (shown, value_after(line, start, end, kind))
            };
            let Some((start, end)) = value else { continue };
            until = until.max(end);
            if !is_secret_value(&line[start..end], self.min_length, self.min_entropy) {
                continue;
            }
            let is_aws = end - start == 40 && contains_ignoring_case(&line[..start], b"aws");
            let rule = if is_aws { "aws-secret-key" } else { "generic-secret" };
            found(Value { rule, start, end, shown });
        }
    }
}

fn contains_ignoring_case(bytes: &[u8], word: &[u8]) -> bool {
    bytes.windows(word.len()).any(|window| window.eq_ignore_ascii_case(word))
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')
}

fn bearer(line: &[u8], from: usize) -> Option<(usize, usize)> {
    let length = line[from..]
        .iter()
        .take(REACH)
        .take_while(|byte| byte.is_ascii_alphanumeric() || b"._~+/=-".contains(byte))
        .count();
    (length >= 20).then_some((from, from + length))
}

/// The telling word of a name, if it has one: `GITHUB_TOKEN`, `clientSecret`, `db.password.prod`.
fn telling_word(name: &[u8]) -> Option<&'static str> {
    let mut words = words(name);
    while words.len() > 1 {
        let last = words.last().map(String::as_str).unwrap_or_default();
        if TAIL.contains(&last) || last.bytes().all(|byte| byte.is_ascii_digit()) {
            words.pop();
        } else {
            break;
        }
    }
    let last = words.pop()?;
    let before = words.last().map(String::as_str).unwrap_or_default();
    if last == "key" || last == "keys" {
        return BEFORE_KEY.contains(&before).then_some("key");
    }
    if HARMLESS.contains(&before) {
        return None;
    }
    LAST.iter().copied().filter(|word| last.ends_with(word)).max_by_key(|word| word.len())
}

fn words(name: &[u8]) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    for (at, byte) in name.iter().enumerate() {
        let before = at.checked_sub(1).map(|before| name[before]);
        let after = name.get(at + 1);
        let is_separator = matches!(byte, b'_' | b'-' | b'.');
        // `apiToken` and `APIToken` are two words.
        let is_hump = byte.is_ascii_uppercase()
            && (before.is_some_and(|it| it.is_ascii_lowercase() || it.is_ascii_digit())
                || (before.is_some_and(|it| it.is_ascii_uppercase())
                    && after.is_some_and(u8::is_ascii_lowercase)));
        if (is_separator || is_hump) && !word.is_empty() {
            words.push(std::mem::take(&mut word));
        }
        if !is_separator {
            word.push(char::from(byte.to_ascii_lowercase()));
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// Place of the value that follows the name at `start..end`.
fn value_after(line: &[u8], start: usize, end: usize, kind: FileKind) -> Option<(usize, usize)> {
    let is_quote = |byte: u8| matches!(byte, b'"' | b'\'' | b'`');
    let was_quoted = start.checked_sub(1).is_some_and(|before| is_quote(line[before]));
    let mut at = end;
    at += line[at..]
        .iter()
        .take(4)
        .take_while(|it| is_quote(**it) || matches!(it, b']' | b'\\' | b'?'))
        .count();
    at += spaces(&line[at..]);
    match line.get(at..)? {
        [b'=' | b'!' | b'<', b'=', ..] => return None,
        [b':' | b'=', b'=' | b'>', ..] | [b'-', b'>', ..] => at += 2,
        [b'=', ..] => at += 1,
        [b'>', ..] => return element(line, at + 1),
        [b',', ..] if was_quoted => at += 1,
        [b':', rest @ ..] => {
            at += 1;
            // A type stands between the name and the value.
            let assign = rest.iter().take(40).position(|byte| *byte == b'=');
            let opens = rest.iter().take(64).position(|byte| is_quote(*byte)).unwrap_or(usize::MAX);
            if let Some(assign) =
                assign.filter(|assign| *assign < opens && !was_quoted && kind == FileKind::Code)
            {
                at += assign + 1;
            }
        }
        _ => return None,
    }
    at += spaces(&line[at..]);
    // `b"…"`, `r"…"`, `f'…'`, `String::from("…")`.
    let lead = line[at..]
        .iter()
        .take(16)
        .take_while(|it| it.is_ascii_alphabetic() || matches!(it, b':' | b'(' | b'&' | b'#' | b'@' | b'\\'))
        .count();
    if let Some(quote) = line.get(at + lead).copied().filter(|byte| is_quote(*byte)) {
        let from = at + lead + 1;
        let length = line[from..].iter().take(REACH).position(|byte| *byte == quote || *byte == b'\\')?;
        return Some((from, from + length));
    }
    if kind == FileKind::Settings {
        let length = line[at..]
            .iter()
            .take(REACH)
            .position(|it| it.is_ascii_whitespace() || matches!(it, b';' | b',' | b'#'));
        let length = length.unwrap_or((line.len() - at).min(REACH));
        return Some((at, at + length));
    }
    None
}

fn element(line: &[u8], from: usize) -> Option<(usize, usize)> {
    let length = line[from..].iter().take(REACH).position(|byte| *byte == b'<')?;
    Some((from, from + length))
}

fn spaces(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count()
}
