//! Answering: verdict, evidence, artifacts, log.

use std::io;

use serde::Serialize;

use crate::{
    limits::clip,
    stage::{ArtifactWriter, Fault, LogLevel, Refusal, Stage, fault},
};

/// A summary is one line of a table.
const SUMMARY_BYTES: usize = 300;

/// Where a block answers.
#[derive(Clone, Copy)]
pub struct Output<'a>(&'a dyn Stage);

impl<'a> Output<'a> {
    /// On a host.
    #[must_use]
    pub fn new(stage: &'a dyn Stage) -> Self {
        Self(stage)
    }

    /// Green or red, with one line of at most 300 bytes; line breaks become spaces.
    pub fn verdict(&self, passed: bool, summary: &str) {
        let line = summary.split_whitespace().collect::<Vec<_>>().join(" ");
        self.0.verdict(passed, &clip(&line, SUMMARY_BYTES));
    }

    /// Evidence under a key. It is sealed, so it has integers, strings, booleans, lists and objects only: leave out what
    /// is absent instead of writing null.
    ///
    /// # Errors
    /// The value has a null, a fraction or an integer beyond 2^53, or cannot be JSON.
    pub fn evidence(&self, key: &str, value: &impl Serialize) -> Result<(), Fault> {
        let bad = |why: String| fault("bad-evidence", format!("evidence {key:?}: {why}"));
        let value = serde_json::to_value(value).map_err(|error| bad(error.to_string()))?;
        if let Some(pointer) = unsealable(&value, &mut String::new()) {
            return Err(bad(format!(
                "{pointer:?} is null, a fraction or beyond 2^53, which a record cannot hold"
            )));
        }
        self.0.evidence(key, &value.to_string());
        Ok(())
    }

    /// Starts an artifact. Nothing of it exists before [`Artifact::commit`].
    ///
    /// # Errors
    /// Not granted.
    pub fn artifact(&self, path: &str) -> Result<Artifact, Refusal> {
        self.0.artifact(path).map(Artifact)
    }

    /// A line for the operator.
    pub fn log(&self, level: LogLevel, message: &str) {
        self.0.log(level, message);
    }
}

/// Records are canonical JSON (RFC 8785): integers that every reader holds exactly.
fn is_exact(number: &serde_json::Number) -> bool {
    const MAX: u64 = (1 << 53) - 1;
    number.as_u64().or_else(|| number.as_i64().map(i64::unsigned_abs)).is_some_and(|size| size <= MAX)
}

/// The pointer of the first value that a record cannot hold.
pub(crate) fn unsealable(value: &serde_json::Value, pointer: &mut String) -> Option<String> {
    use serde_json::Value;
    let length = pointer.len();
    let mut inside = |name: &str, value: &Value| {
        pointer.push('/');
        pointer.push_str(name);
        let found = unsealable(value, pointer);
        pointer.truncate(length);
        found
    };
    match value {
        Value::Null => Some(pointer.clone()),
        Value::Number(number) if !is_exact(number) => Some(pointer.clone()),
        Value::Array(items) => {
            items.iter().enumerate().find_map(|(index, item)| inside(&index.to_string(), item))
        }
        Value::Object(map) => map.iter().find_map(|(key, item)| inside(key, item)),
        _ => None,
    }
}

/// An artifact being written.
pub struct Artifact(Box<dyn ArtifactWriter>);

impl Artifact {
    /// Makes it visible, whole. Answers its digest.
    ///
    /// # Errors
    /// Over a limit, or the host cannot store it.
    pub fn commit(self) -> Result<String, Refusal> {
        self.0.commit()
    }
}

impl io::Write for Artifact {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.write(data).map_err(io::Error::other)?;
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
