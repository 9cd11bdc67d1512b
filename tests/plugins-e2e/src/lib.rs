//! The commands of a documentation page.
//!
//! A `console` block holds commands and parts of what they print. A line that starts with `$ ` is a command, lines that
//! start with `> ` continue it, every other line is expected: what stands before a `…` starts a line of the output, what
//! stands behind it ends the same line. Deliberately not here: running them.

/// One command with what it should print.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Line of the page, from 1.
    pub line: usize,
    /// Shell text, several lines for a here-document.
    pub text: String,
    /// Lines of the output, in order.
    pub expected: Vec<String>,
}

/// All commands of a page.
///
/// # Errors
/// A line of a `console` block that belongs to no command, or a block that does not end.
pub fn commands(page: &str) -> Result<Vec<Command>, String> {
    let mut found: Vec<Command> = Vec::new();
    let mut inside = false;
    let mut fresh = true;
    for (line, text) in (1..).zip(page.lines()) {
        match (inside, text) {
            (false, "```console") => (inside, fresh) = (true, true),
            (true, "```") => inside = false,
            (true, text) => match (text.strip_prefix("$ "), text.strip_prefix("> ")) {
                (Some(command), _) => {
                    fresh = false;
                    found.push(Command { line, text: command.to_owned(), expected: Vec::new() });
                }
                (None, continued) => {
                    let last = found.last_mut().filter(|_| !fresh);
                    let last = last.ok_or_else(|| format!("line {line}: {text:?} belongs to no command"))?;
                    match continued {
                        Some(more) => last.text.push_str(&format!("\n{more}")),
                        None if text == ">" => last.text.push('\n'),
                        None => last.expected.push(text.to_owned()),
                    }
                }
            },
            (false, _) => {}
        }
    }
    if inside { Err("a console block does not end".to_owned()) } else { Ok(found) }
}

/// Whether `line` of an output is what `expected` says.
#[must_use]
pub fn fits(expected: &str, line: &str) -> bool {
    match expected.split_once('…') {
        Some((start, end)) => line.starts_with(start) && line.ends_with(end),
        None => line.contains(expected),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_continue_and_expect() {
        let page = "text\n```console\n$ cat <<'E'\n> a\n>\n> b\n> E\na\n$ true\n```\n    $ not one\n```\n$ nor this\n```\n";
        let found = commands(page).expect("a page");
        assert_eq!(found.len(), 2);
        assert_eq!(
            found[0],
            Command { line: 3, text: "cat <<'E'\na\n\nb\nE".into(), expected: vec!["a".into()] }
        );
        assert_eq!((found[1].text.as_str(), found[1].expected.len()), ("true", 0));
        assert!(commands("```console\nlost\n```\n").is_err());
        assert!(commands("```console\n$ a\n").is_err());
        assert!(fits("file  …/x.wasm", "file  /tmp/x.wasm") && !fits("file  …/x.wasm", "file  /tmp/y.wasm"));
    }
}
