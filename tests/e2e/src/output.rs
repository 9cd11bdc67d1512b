//! What one command left behind.

use serde_json::Value;

/// Exit code, bytes and text.
#[derive(Debug)]
pub struct Output {
    /// The command line, for messages.
    pub command: String,
    /// Exit code; `None` after a signal.
    pub code: Option<i32>,
    /// Exact bytes.
    pub stdout: Vec<u8>,
    /// Text.
    pub stderr: String,
}

impl Output {
    /// stdout as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Asserts the exit code.
    ///
    /// # Panics
    /// With everything the command printed.
    #[track_caller]
    #[must_use]
    pub fn code(self, expected: i32) -> Self {
        let text = self.text();
        let shown: String = text.chars().take(4_000).collect();
        assert_eq!(self.code, Some(expected), "{}\nstdout:\n{shown}\nstderr:\n{}", self.command, self.stderr);
        self
    }

    /// Exit code 0.
    ///
    /// # Panics
    /// With everything the command printed.
    #[track_caller]
    #[expect(clippy::must_use_candidate, reason = "often only the exit code matters")]
    pub fn ok(self) -> Self {
        self.code(0)
    }

    /// Asserts that stderr contains every part.
    ///
    /// # Panics
    /// With stderr.
    #[track_caller]
    #[expect(clippy::must_use_candidate, reason = "often the last assertion")]
    pub fn says(self, parts: &[&str]) -> Self {
        for part in parts {
            assert!(
                self.stderr.contains(part),
                "{}: {part:?} is not in stderr:\n{}",
                self.command,
                self.stderr
            );
        }
        self
    }

    /// stdout as a JSON document of schema version 1.
    ///
    /// # Panics
    /// When it is not.
    #[track_caller]
    #[must_use]
    pub fn json(&self) -> Value {
        let value: Value = serde_json::from_slice(&self.stdout)
            .unwrap_or_else(|error| panic!("{}: {error}: {}\n{}", self.command, self.text(), self.stderr));
        assert_eq!(value["schemaVersion"], 1, "{}: {value}", self.command);
        value
    }
}
