//! The only place that writes to stdout and stderr. Decides colour, JSON, quiet and progress.

use std::{
    borrow::Cow,
    cell::Cell,
    env, fmt,
    io::{self, IsTerminal as _, Write as _},
    time::Duration,
};

use serde::Serialize;
use serde_json::{Value, json};

use crate::args::Global;

/// Version of everything `--json` prints.
pub(crate) const SCHEMA_VERSION: u32 = 1;

/// How a piece of text is meant; the printer chooses the colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Plain,
    Error,
    Warn,
    Good,
    Busy,
    Hint,
    Dim,
    Bold,
}

impl Role {
    const fn sgr(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Error => "1;31",
            Self::Warn => "33",
            Self::Good => "32",
            Self::Busy => "36",
            Self::Hint => "1;36",
            Self::Dim => "2",
            Self::Bold => "1",
        }
    }
}

/// Wraps `text` in the colour of `role`.
pub(crate) fn paint(role: Role, text: &str, colour: bool) -> Cow<'_, str> {
    if colour && role != Role::Plain && !text.is_empty() {
        Cow::Owned(format!("\x1b[{}m{text}\x1b[0m", role.sgr()))
    } else {
        Cow::Borrowed(text)
    }
}

/// Text that comes from agents, plans and files must not drive the terminal: control characters but newline and tab
/// become visible symbols, and so do the characters that reorder text.
pub(crate) fn plain(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_hostile) {
        return Cow::Borrowed(text);
    }
    let visible = |c: char| match u32::from(c) {
        _ if !is_hostile(c) => c,
        code @ 0..0x20 => char::from_u32(0x2400 + code).unwrap_or('\u{fffd}'),
        0x7f => '\u{2421}',
        _ => '\u{fffd}',
    };
    Cow::Owned(text.chars().map(visible).collect())
}

/// The same with newlines and tabs as symbols too: nothing of it can look like a line of its own.
pub(crate) fn visible(text: &str) -> String {
    plain(text).replace('\n', "\u{240a}").replace('\t', "\u{2409}")
}

/// Later lines are set in, so that foreign text in them cannot pass for a message of this program.
fn set_in(text: &str) -> String {
    plain(text).trim_end_matches('\n').replace('\n', "\n    ")
}

/// The same on one line.
pub(crate) fn one_line(text: &str) -> String {
    plain(text).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The same JSON, in which what could drive a terminal is written as an escape. Outside of strings JSON has no such characters.
fn escaped(json: &str) -> Cow<'_, str> {
    if !json.contains(is_hostile) {
        return Cow::Borrowed(json);
    }
    let mut text = String::with_capacity(json.len() + 32);
    for c in json.chars() {
        // All of them have one unit in UTF-16.
        if is_hostile(c) { text.push_str(&format!("\\u{:04x}", u32::from(c))) } else { text.push(c) }
    }
    Cow::Owned(text)
}

fn is_hostile(c: char) -> bool {
    (c.is_control() && !matches!(c, '\n' | '\t'))
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Writes for one process.
#[derive(Debug, Clone)]
pub(crate) struct Printer {
    json: bool,
    quiet: bool,
    stdout_terminal: bool,
    stderr_terminal: bool,
    stdout_colour: bool,
    stderr_colour: bool,
}

impl Printer {
    /// Looks at flags, environment and terminals.
    pub(crate) fn new(global: &Global) -> Self {
        let wanted = !global.no_color
            && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            && env::var_os("TERM").is_none_or(|term| term != "dumb");
        let (stdout_terminal, stderr_terminal) = (io::stdout().is_terminal(), io::stderr().is_terminal());
        Self {
            json: global.json,
            quiet: global.quiet,
            stdout_terminal,
            stderr_terminal,
            stdout_colour: wanted && stdout_terminal,
            stderr_colour: wanted && stderr_terminal,
        }
    }

    /// `--json` was given.
    pub(crate) const fn is_json(&self) -> bool {
        self.json
    }

    /// `--quiet` was given.
    pub(crate) const fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// stdout is a terminal.
    pub(crate) const fn is_terminal(&self) -> bool {
        self.stdout_terminal
    }

    /// Colour on stdout.
    pub(crate) const fn colour(&self) -> bool {
        self.stdout_colour
    }

    /// Colour on stderr.
    pub(crate) const fn stderr_colour(&self) -> bool {
        self.stderr_colour
    }

    /// Data, exactly these bytes.
    pub(crate) fn raw(&self, bytes: &[u8]) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes)?;
        stdout.flush()
    }

    /// Data that others wrote: exact when piped, without control characters on a terminal.
    pub(crate) fn foreign(&self, bytes: &[u8]) -> io::Result<()> {
        if self.stdout_terminal {
            self.raw(plain(&String::from_utf8_lossy(bytes)).as_bytes())
        } else {
            self.raw(bytes)
        }
    }

    /// One line of data.
    pub(crate) fn line(&self, text: impl fmt::Display) -> io::Result<()> {
        self.raw(format!("{text}\n").as_bytes())
    }

    /// A JSON document. An object gets `schemaVersion` in front when it has none.
    pub(crate) fn json<T: Serialize>(&self, value: &T) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(&versioned(serde_json::to_value(value)?))?;
        Ok(self.line(escaped(&text))?)
    }

    /// One JSON document on one line.
    pub(crate) fn json_line<T: Serialize>(&self, value: &T) -> anyhow::Result<()> {
        let text = serde_json::to_string(&versioned(serde_json::to_value(value)?))?;
        Ok(self.line(escaped(&text))?)
    }

    /// News for people, on stderr, unless `--quiet`.
    pub(crate) fn note(&self, text: impl fmt::Display) {
        if !self.quiet {
            self.stderr(&format!("{text}\n"));
        }
    }

    /// `hint: …` on stderr, unless `--quiet`.
    pub(crate) fn hint(&self, text: impl fmt::Display) {
        if !self.quiet {
            self.labelled(Role::Hint, "hint", &text.to_string());
        }
    }

    /// `warning: …` on stderr, also with `--quiet`.
    pub(crate) fn warn(&self, text: impl fmt::Display) {
        self.labelled(Role::Warn, "warning", &text.to_string());
    }

    /// `<label>: <text>` on stderr. `text` may be anybody's.
    pub(crate) fn labelled(&self, role: Role, label: &str, text: &str) {
        let colon = if label.ends_with('-') { "" } else { ":" };
        let label = format!("{label}{colon}");
        self.stderr(&format!("{} {}\n", paint(role, &label, self.stderr_colour), set_in(text)));
    }

    /// Shows `what` on stderr while the work lasts more than a second. Only on a terminal.
    pub(crate) async fn progress<T>(&self, what: &str, work: impl Future<Output = T>) -> T {
        self.progress_of(|| what.to_owned(), work).await
    }

    /// The same for work that says how far it is.
    pub(crate) async fn progress_of<T>(&self, what: impl Fn() -> String, work: impl Future<Output = T>) -> T {
        if self.quiet || !self.stderr_terminal {
            return work.await;
        }
        let shown = Cell::new(false);
        let ticker = async || -> T {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let mut seconds = 1_u64;
            loop {
                shown.set(true);
                self.stderr(&format!("\r\x1b[2K{} … {seconds} s", what()));
                tokio::time::sleep(Duration::from_secs(1)).await;
                seconds += 1;
            }
        };
        let result = tokio::select! {
            result = work => result,
            never = ticker() => never,
        };
        if shown.get() {
            self.stderr("\r\x1b[2K");
        }
        result
    }

    /// stderr is best effort: when it is closed there is nobody to tell.
    fn stderr(&self, text: &str) {
        let _ = io::stderr().lock().write_all(text.as_bytes());
    }
}

fn versioned(value: Value) -> Value {
    match value {
        Value::Object(object) if !object.contains_key("schemaVersion") => {
            let mut with = serde_json::Map::new();
            with.insert("schemaVersion".to_owned(), json!(SCHEMA_VERSION));
            with.extend(object);
            Value::Object(with)
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_cannot_drive_the_terminal() {
        assert_eq!(plain("a\x1b[2Jb\x07\u{202e}c\n\td\u{9b}"), "a␛[2Jb␇\u{fffd}c\n\td\u{fffd}");
        assert_eq!(one_line("a\r\n  b\tc"), "a␍ b c");
        assert_eq!(visible("a\n\tb\x1b"), "a␊␉b␛");
        assert_eq!(set_in("boom\nerror: \x1b[1mforged\n"), "boom\n    error: ␛[1mforged");
    }

    #[test]
    fn hostile_text_in_json_is_the_same_text_as_an_escape() {
        let value = json!({ "a\u{202e}": "b\u{9b}\u{7f}\x1b\u{2066}\u{00e9}\u{1f600}\n" });
        let text = value.to_string();
        let escaped = escaped(&text);
        assert!(!escaped.contains(is_hostile), "{escaped}");
        assert!(escaped.contains("\\u202e") && escaped.contains('\u{1f600}'), "{escaped}");
        assert_eq!(serde_json::from_str::<Value>(&escaped).unwrap(), value);
    }

    #[test]
    fn json_documents_always_say_their_version() {
        assert_eq!(versioned(json!({"a": 1})).to_string(), r#"{"schemaVersion":1,"a":1}"#);
        assert_eq!(versioned(json!({"schemaVersion": 2})).to_string(), r#"{"schemaVersion":2}"#);
    }
}
