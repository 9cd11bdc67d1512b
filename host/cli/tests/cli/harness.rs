//! Runs `pangolin` with nothing of the developer's environment.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// A fresh directory to run in.
pub(crate) struct Place {
    dir: tempfile::TempDir,
}

/// What one run left behind.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pangolin"));
        command.args(args).current_dir(self.path()).env_clear();
        command.env("HOME", self.path()).env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("LANG", "C.UTF-8").env("TZ", "UTC").stdin(Stdio::null());
        command
    }

    /// Runs to the end.
    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.finish(self.command(args), None)
    }

    /// Runs to the end, after a change of the command.
    #[cfg(feature = "aws")]
    pub(crate) fn run_with(&self, args: &[&str], change: impl FnOnce(&mut Command)) -> Output {
        let mut command = self.command(args);
        change(&mut command);
        self.finish(command, None)
    }

    /// Runs to the end while the test does something else.
    #[cfg(feature = "aws")]
    pub(crate) async fn run_async(&self, args: &[&str], env: Vec<(&'static str, String)>) -> Output {
        let mut command = self.command(args);
        command.envs(env);
        let output = tokio::process::Command::from(command).kill_on_drop(true).output().await.unwrap();
        self.read(output)
    }

    pub(crate) fn run_with_stdin(&self, args: &[&str], stdin: &[u8]) -> Output {
        self.finish(self.command(args), Some(stdin))
    }

    fn finish(&self, mut command: Command, stdin: Option<&[u8]>) -> Output {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        if stdin.is_some() {
            command.stdin(Stdio::piped());
        }
        let mut child = command.spawn().unwrap();
        if let (Some(bytes), Some(mut pipe)) = (stdin, child.stdin.take()) {
            pipe.write_all(bytes).unwrap();
        }
        self.read(child.wait_with_output().unwrap())
    }

    fn read(&self, output: std::process::Output) -> Output {
        Output {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: self.mask(&String::from_utf8(output.stderr).unwrap()),
        }
    }

    /// Replaces the directory so that output can be compared.
    fn mask(&self, text: &str) -> String {
        let real = self.path().canonicalize().unwrap();
        text.replace(real.to_str().unwrap(), "<dir>").replace(self.path().to_str().unwrap(), "<dir>")
    }
}

impl Output {
    /// Asserts the exit code, shows everything when it differs.
    #[track_caller]
    pub(crate) fn code(self, expected: i32) -> Self {
        assert_eq!(self.code, Some(expected), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// stdout as JSON with the schema version that every document has.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        let value: serde_json::Value =
            serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {self:?}"));
        assert_eq!(value["schemaVersion"], 1, "{value}");
        value
    }

    /// stderr contains every part.
    #[track_caller]
    pub(crate) fn says(self, parts: &[&str]) -> Self {
        for part in parts {
            assert!(self.stderr.contains(part), "{part:?} is not in stderr:\n{}", self.stderr);
        }
        self
    }

    /// For snapshots.
    pub(crate) fn shown(&self) -> String {
        format!("exit: {}\n--- stdout\n{}--- stderr\n{}", self.code.unwrap_or(-1), self.stdout, self.stderr)
    }
}
