//! What the model does.

use std::{error, fmt, str::FromStr};

/// What the model does in every session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Script {
    /// Asks for one shell command that appends to the file named by the [`edit_marker`] in the prompt (without
    /// marker: `hello.txt`), and closes once it has the result.
    Edit,
    /// Asks for a harmless shell command again and again, and never comes to an end.
    ToolLoop,
    /// Starts its answer and then says nothing more until the client goes away.
    Stall,
    /// Like [`Script::Edit`], but stalls where it should close: the work is there and the session never ends.
    EditStall,
    /// Declines in words, with stop reason `refusal`.
    Refuse,
    /// Answers every request with this HTTP status and a provider's error body.
    Status(u16),
}

/// Not a script's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownScript(String);

impl fmt::Display for UnknownScript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "no script {:?}; there are edit, edit-stall, tool-loop, stall, refuse and HTTP statuses from 400 to 599",
            self.0
        )
    }
}

impl error::Error for UnknownScript {}

impl FromStr for Script {
    type Err = UnknownScript;

    fn from_str(name: &str) -> Result<Self, UnknownScript> {
        match name {
            "edit" => Ok(Self::Edit),
            "edit-stall" => Ok(Self::EditStall),
            "tool-loop" => Ok(Self::ToolLoop),
            "stall" => Ok(Self::Stall),
            "refuse" => Ok(Self::Refuse),
            _ => match name.parse() {
                Ok(status @ 400..=599) => Ok(Self::Status(status)),
                _ => Err(UnknownScript(name.to_owned())),
            },
        }
    }
}

/// Text for a prompt that tells [`Script::Edit`] and [`Script::EditStall`] what to append to which file. Neither may contain `]]` or a line end,
/// and the path no blank.
#[must_use]
pub fn edit_marker(path: &str, text: &str) -> String {
    format!("[[edit {path} {text}]]")
}

/// Path and text of the first marker anywhere in `prompt`.
pub(crate) fn find_marker(prompt: &str) -> Option<(&str, &str)> {
    let (_, rest) = prompt.split_once("[[edit ")?;
    let (marker, _) = rest.split_once("]]")?;
    marker.split_once(' ')
}
