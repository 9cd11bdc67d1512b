//! Private keys in PEM armour. The header alone is no secret (code that parses keys has it too): key material must follow,
//! on the same line with escaped line breaks or on one of the next lines.

use pangolin_block_sdk::Segment;

use crate::scanner::{Hit, fingerprint};

/// Lines between header and material: `Proc-Type`, `DEK-Info`, `Version`, an empty line.
const REACH: u64 = 6;

/// Consecutive base64 characters that count as material.
const MATERIAL: usize = 40;

/// A key block.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) line: u64,
    pub(crate) column: u64,
    pub(crate) hit: Hit,
}

/// Watches the lines of one file.
#[derive(Debug, Default)]
pub(crate) struct KeyBlocks {
    /// Line, column and whether the header is new.
    header: Option<(u64, u64)>,
}

impl KeyBlocks {
    /// Looks at the next line. Material counts when it is new, under an old header too.
    pub(crate) fn line(&mut self, segment: &Segment<'_>, is_added: bool) -> Option<Found> {
        let material = if let Some((start, end)) = header(segment.bytes) {
            self.header = Some((segment.number, segment.start + start as u64 + 1));
            material(&segment.bytes[end..])
        } else {
            // A hash or a call on a line of code that follows a header is no key.
            material(segment.bytes).filter(|run| is_alone(segment.bytes, run))
        };
        let (line, column) = self.header?;
        if segment.number > line + REACH || (material.is_none() && contains(segment.bytes, b"-----END")) {
            self.header = None;
            return None;
        }
        let material = material?;
        self.header = None;
        is_added.then(|| Found {
            line,
            column,
            hit: Hit {
                rule: "private-key".into(),
                start: 0,
                end: material.len(),
                shown: "-----BEGIN … PRIVATE KEY".into(),
                hash: fingerprint("private-key", material),
            },
        })
    }
}

fn contains(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text)
}

/// Start and end of the armour's first line.
fn header(bytes: &[u8]) -> Option<(usize, usize)> {
    const BEGIN: &[u8] = b"-----BEGIN ";
    let mut from = 0;
    while let Some(start) = bytes[from..].windows(BEGIN.len()).position(|it| it == BEGIN).map(|at| at + from)
    {
        let label = &bytes[start + BEGIN.len()..];
        let length = label.windows(5).take(60).position(|it| it == b"-----");
        if let Some(length) = length {
            let label = &label[..length];
            if label.ends_with(b"PRIVATE KEY") || label.ends_with(b"PRIVATE KEY BLOCK") {
                return Some((start, start + BEGIN.len() + length + 5));
            }
        }
        from = start + BEGIN.len();
    }
    None
}

/// Whether a line holds the run and nothing else but quotes, line breaks in words and what joins texts.
fn is_alone(line: &[u8], run: &[u8]) -> bool {
    let others = line.len() - run.len();
    let frame = line.iter().filter(|byte| b" \t\"'`+,;.()\\&>|*#/-".contains(byte)).count();
    // At most the `n` and `r` of escapes are letters outside the run.
    others <= frame + 4
}

/// The first long run of base64; an escaped line break before it is not part of it.
fn material(bytes: &[u8]) -> Option<&[u8]> {
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == b'\\' {
            at += 2;
            continue;
        }
        let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
        let length = bytes[at..].iter().take_while(|byte| is_base64(byte)).count();
        let run = &bytes[at..at + length];
        let is_mixed = run.iter().any(u8::is_ascii_uppercase) && run.iter().any(u8::is_ascii_lowercase);
        if length >= MATERIAL && is_mixed && crate::random::entropy(run) >= 3.5 {
            return Some(run);
        }
        at += length.max(1);
    }
    None
}
