//! One line at a time: which secrets are in it.

use aho_corasick::AhoCorasick;
use pangolin_block_sdk::{Fault, fault};
use sha2::{Digest as _, Sha256};

use crate::{
    assignment::{self, Assignments},
    params::Params,
    random::{entropy, is_placeholder},
    tokens::{Charset, Check, TOKENS, Token},
};

/// A likely secret.
#[derive(Debug)]
pub(crate) struct Hit {
    pub(crate) rule: String,
    /// Place of the secret in the line.
    pub(crate) start: usize,
    pub(crate) end: usize,
    /// What may be shown; never taken from the secret.
    pub(crate) shown: String,
    pub(crate) hash: String,
}

/// What the file's name says about its syntax.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileKind {
    /// Values are in quotes.
    Code,
    /// Values may stand without quotes.
    Settings,
    /// Full of hashes: only token formats are looked for.
    Lockfile,
}

impl FileKind {
    pub(crate) fn of(path: &str) -> Self {
        let name = path.rsplit('/').next().unwrap_or(path);
        let locks = [
            "Cargo.lock",
            "package-lock.json",
            "npm-shrinkwrap.json",
            "yarn.lock",
            "pnpm-lock.yaml",
            "bun.lock",
            "poetry.lock",
            "uv.lock",
            "Pipfile.lock",
            "pdm.lock",
            "composer.lock",
            "Gemfile.lock",
            "go.sum",
            "mix.lock",
            "flake.lock",
            "deno.lock",
            "packages.lock.json",
            "gradle.lockfile",
            "Package.resolved",
        ];
        if locks.contains(&name) {
            return Self::Lockfile;
        }
        let suffixes = [
            "env",
            "properties",
            "ini",
            "cfg",
            "conf",
            "config",
            "yaml",
            "yml",
            "sh",
            "bash",
            "zsh",
            "fish",
            "tfvars",
            "npmrc",
            "pypirc",
            "netrc",
            "toml",
            "mk",
        ];
        let extension = name.rsplit_once('.').map(|parts| parts.1);
        let is_settings = extension.is_some_and(|it| suffixes.contains(&it))
            || name.starts_with(".env")
            || name.starts_with("Dockerfile")
            || name == "Makefile";
        if is_settings { Self::Settings } else { Self::Code }
    }
}

/// How a secret is named in evidence and allow lists: 32 bits of SHA-256 over rule and secret. Enough to tell findings
/// apart; too few to confirm a guess of a weak password, because many guesses fit.
pub(crate) fn fingerprint(rule: &str, secret: &[u8]) -> String {
    let mut hash = Sha256::new();
    hash.update(b"pangolin-secret-scan-v1\n");
    hash.update(rule);
    hash.update(b"\n");
    hash.update(secret);
    hash.finalize()[..4].iter().map(|byte| format!("{byte:02x}")).collect()
}

struct Format {
    rule: String,
    prefix: String,
    charset: Charset,
    min: usize,
    max: usize,
    check: Check,
}

/// All rules, ready to use.
pub(crate) struct Scanner {
    formats: Vec<Format>,
    prefixes: AhoCorasick,
    assignments: Assignments,
}

impl Scanner {
    pub(crate) fn new(params: &Params) -> Result<Self, Fault> {
        let built_in = TOKENS.iter().map(|&Token { rule, prefix, charset, min, max, check }| Format {
            rule: rule.into(),
            prefix: prefix.into(),
            charset,
            min,
            max,
            check,
        });
        let custom = params.custom.iter().map(|token| Format {
            rule: token.id.clone(),
            prefix: token.prefix.clone(),
            charset: token.charset,
            min: token.min,
            max: token.max,
            check: Check::Plain,
        });
        let formats: Vec<Format> = built_in.chain(custom).collect();
        let prefixes = AhoCorasick::new(formats.iter().map(|format| &format.prefix))
            .map_err(|error| fault("bad-params", format!("/params/customTokens: {error}")))?;
        Ok(Self { formats, prefixes, assignments: Assignments::new(params)? })
    }

    /// Adds what a line has, in order of place.
    pub(crate) fn scan(&self, line: &[u8], kind: FileKind, hits: &mut Vec<Hit>) {
        self.tokens(line, hits);
        if kind != FileKind::Lockfile {
            self.assignments.scan(line, kind, |value| {
                // A token format says more than a telling name.
                let (start, end) = (value.start, value.end);
                if hits.iter().all(|hit| hit.end <= start || hit.start >= end) {
                    let assignment::Value { rule, shown, .. } = value;
                    hits.push(Hit {
                        rule: rule.into(),
                        start,
                        end,
                        shown: format!("{shown} = …"),
                        hash: fingerprint(rule, &line[start..end]),
                    });
                }
            });
        }
        hits.sort_by_key(|hit| hit.start);
    }

    /// A path as evidence may show it.
    pub(crate) fn redact(&self, path: &str) -> String {
        let mut hits = Vec::new();
        self.tokens(path.as_bytes(), &mut hits);
        let mut shown = path.to_owned();
        for hit in hits.iter().rev() {
            if shown.is_char_boundary(hit.start) && shown.is_char_boundary(hit.end) {
                shown.replace_range(hit.start..hit.end, &format!("[{} {}]", hit.rule, hit.hash));
            }
        }
        shown
    }

    fn tokens(&self, line: &[u8], hits: &mut Vec<Hit>) {
        let mut found: Vec<(usize, usize, &Format)> = Vec::new();
        for candidate in self.prefixes.find_overlapping_iter(line) {
            let Some(format) = self.formats.get(candidate.pattern().as_usize()) else { continue };
            if let Some((start, end)) = format.matches(line, candidate.start(), candidate.end()) {
                found.push((start, end, format));
            }
        }
        // `sk-ant-…` is also `sk-…`: of overlapping ones the longest prefix wins.
        found.sort_by_key(|(start, _, format)| (*start, std::cmp::Reverse(format.prefix.len())));
        let mut until = 0;
        for (start, end, format) in found {
            if start >= until {
                until = end;
                hits.push(Hit {
                    rule: format.rule.clone(),
                    start,
                    end,
                    shown: format!("{}…", format.prefix),
                    hash: fingerprint(&format.rule, &line[start..end]),
                });
            }
        }
    }
}

impl Format {
    /// Place of the secret when the text from `body` on fits.
    fn matches(&self, line: &[u8], start: usize, body: usize) -> Option<(usize, usize)> {
        if self.check == Check::UrlPassword {
            return url_password(line, body);
        }
        let begins_word = self.prefix.starts_with(|first: char| first.is_ascii_alphanumeric());
        if begins_word && !is_start(&line[..start]) {
            return None;
        }
        let rest = &line[body..];
        let mut length = match self.check {
            Check::Jwt => jwt(rest)?,
            _ => rest.iter().take(self.max + 1).take_while(|byte| self.charset.has(**byte)).count(),
        };
        // A sentence may end right after it.
        while length > 0 && matches!(rest[length - 1], b'.' | b'-') {
            length -= 1;
        }
        if !(self.min..=self.max).contains(&length) {
            return None;
        }
        let text = &rest[..length];
        let fits = match self.check {
            Check::Plain | Check::Jwt => true,
            Check::Contains(part) => text.windows(part.len()).any(|window| window == part.as_bytes()),
            Check::DotAt(place) => text.get(place) == Some(&b'.'),
            Check::UrlPassword => false,
        };
        let enough = if self.charset == Charset::Hex { 2.8 } else { 3.0 };
        // Sixteen random characters can have few different ones.
        let enough = if length < 20 { 2.5 } else { enough };
        let is_random = entropy(text) >= enough && !is_placeholder(text);
        (fits && is_random).then_some((start, body + length))
    }
}

/// Whether a token may start here: not inside a word, unless the word is the letter of an escape such as `\n`.
fn is_start(before: &[u8]) -> bool {
    match before {
        [.., b'\\', b'n' | b't' | b'r'] => true,
        [.., last] => !last.is_ascii_alphanumeric() && *last != b'_',
        [] => true,
    }
}

/// After `eyJ`: length of the rest of the header, payload and signature. Each part is looked at only when the one before
/// fits, because a line can be full of beginnings.
fn jwt(text: &[u8]) -> Option<usize> {
    let part = |from: usize, max: usize| {
        let rest = text.get(from..).unwrap_or_default();
        rest.iter().take(max).take_while(|byte| Charset::Base64Url.has(**byte)).count()
    };
    let is_dot = |at: usize| text.get(at) == Some(&b'.');
    let header = part(0, 1_000);
    let from = header + 1;
    if header < 10 || !is_dot(header) || !text[from..].starts_with(b"eyJ") {
        return None;
    }
    let payload = part(from, 8_000);
    let signature = part(from + payload + 1, 2_000);
    (payload >= 10 && is_dot(from + payload) && signature >= 16).then_some(from + payload + 1 + signature)
}

/// The password of `://user:password@host`.
fn url_password(line: &[u8], from: usize) -> Option<(usize, usize)> {
    let rest = &line[from..];
    let length = rest
        .iter()
        .take(600)
        .take_while(|byte| {
            byte.is_ascii_graphic() && !matches!(byte, b'/' | b'"' | b'\'' | b'<' | b'>' | b'`' | b'?')
        })
        .count();
    let authority = &rest[..length];
    let at = authority.iter().rposition(|byte| *byte == b'@')?;
    let colon = authority[..at].iter().position(|byte| *byte == b':')?;
    let (user, password, host) = (&authority[..colon], &authority[colon + 1..at], &authority[at + 1..]);
    let text = String::from_utf8_lossy(password).to_ascii_lowercase();
    let host = String::from_utf8_lossy(host).to_ascii_lowercase();
    let is_template = password.iter().any(|byte| matches!(byte, b'$' | b'{' | b'}' | b'*' | b'[' | b'('));
    let is_common = ["password", "passwd", "postgres", "changeit", "secret", "mysecret"]
        .iter()
        .any(|word| text.contains(word));
    let is_local =
        ["localhost", "127.0.0.1", "[::1]", "example.", "0.0.0.0"].iter().any(|it| host.starts_with(it))
            || host.contains(".example")
            || host.is_empty();
    let is_weak =
        password.len() < 8 || password == user || is_placeholder(password) || entropy(password) < 2.5;
    (!is_template && !is_common && !is_local && !is_weak).then_some((from + colon + 1, from + at))
}
