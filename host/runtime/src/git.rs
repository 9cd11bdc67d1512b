//! The host's git in a sealed configuration: what it prints depends on the arguments and the objects only, never on
//! the user's or the repository's settings, hooks, filters or attributes.

use std::{
    ffi::{OsStr, OsString},
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use thiserror::Error;

/// Why a git command failed.
#[derive(Debug, Error)]
pub enum GitError {
    /// Not installed or not executable.
    #[error("cannot run git; install it (Debian: apt-get install git)")]
    Missing(#[source] std::io::Error),
    /// It ran and failed.
    #[error("git {command} failed in {dir}: {stderr}")]
    Failed {
        /// Subcommand and arguments.
        command: String,
        /// Directory.
        dir: PathBuf,
        /// Its message, at most 2,000 bytes.
        stderr: String,
    },
    /// A path could not be read or written around a git call.
    #[error("cannot access {path}")]
    Io {
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Settings that would change bytes or run programs, pinned for every call.
const PINNED: [(&str, &str); 16] = [
    ("safe.directory", "*"),
    ("core.quotepath", "true"),
    ("core.autocrlf", "false"),
    ("core.eol", "lf"),
    ("core.fsmonitor", "false"),
    ("core.untrackedCache", "false"),
    ("core.hooksPath", "/dev/null"),
    ("core.attributesFile", "/dev/null"),
    ("core.excludesFile", "/dev/null"),
    ("core.fileMode", "true"),
    ("core.symlinks", "true"),
    ("diff.algorithm", "myers"),
    ("diff.noprefix", "false"),
    ("diff.mnemonicPrefix", "false"),
    ("gc.auto", "0"),
    ("commit.gpgSign", "false"),
];

/// A git call under construction.
pub struct Git {
    dir: PathBuf,
    command: Command,
    label: Vec<OsString>,
}

impl Git {
    /// A call in `dir`.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        let mut command = Command::new("git");
        command.env_clear();
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        command
            .current_dir(dir)
            .env("HOME", "/nonexistent")
            .env("LC_ALL", "C")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_ATTR_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_OPTIONAL_LOCKS", "0")
            .env("GIT_CONFIG_COUNT", PINNED.len().to_string())
            .stdin(Stdio::null());
        for (index, (key, value)) in PINNED.iter().enumerate() {
            command
                .env(format!("GIT_CONFIG_KEY_{index}"), key)
                .env(format!("GIT_CONFIG_VALUE_{index}"), value);
        }
        Self { dir: dir.to_owned(), command, label: Vec::new() }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.label.push(arg.as_ref().to_owned());
        self.command.arg(arg);
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: AsRef<OsStr>>(self, args: impl IntoIterator<Item = S>) -> Self {
        args.into_iter().fold(self, Self::arg)
    }

    /// Sets a variable for git itself.
    #[must_use]
    pub fn env(mut self, key: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(key, value);
        self
    }

    /// Runs it and returns stdout.
    ///
    /// # Errors
    /// [`GitError`].
    pub fn run(self) -> Result<Vec<u8>, GitError> {
        self.run_with(b"")
    }

    /// Runs it with `input` on stdin and returns stdout.
    ///
    /// # Errors
    /// [`GitError`].
    pub fn run_with(mut self, input: &[u8]) -> Result<Vec<u8>, GitError> {
        if !input.is_empty() {
            self.command.stdin(Stdio::piped());
        }
        let mut child =
            self.command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(GitError::Missing)?;
        let stdin = child.stdin.take();
        let output = std::thread::scope(|scope| {
            // A thread, because git may fill its stdout before it has read all of its stdin.
            if let Some(mut stdin) = stdin {
                scope.spawn(move || stdin.write_all(input));
            }
            child.wait_with_output()
        })
        .map_err(GitError::Missing)?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let command =
            self.label.iter().take(8).map(|arg| arg.to_string_lossy()).collect::<Vec<_>>().join(" ");
        let mut stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        stderr.truncate(stderr.floor_char_boundary(2_000));
        Err(GitError::Failed { command, dir: self.dir, stderr })
    }

    /// Runs it and returns stdout as one trimmed line.
    ///
    /// # Errors
    /// [`GitError`].
    pub fn line(self) -> Result<String, GitError> {
        Ok(String::from_utf8_lossy(&self.run()?).trim().to_owned())
    }
}

/// The commit that `revision` names in `repo`.
///
/// # Errors
/// [`GitError`].
pub fn resolve_commit(repo: &Path, revision: &str) -> Result<String, GitError> {
    Git::new(repo)
        .args(["rev-parse", "--verify", "--quiet", "--end-of-options"])
        .arg(format!("{revision}^{{commit}}"))
        .line()
}

/// Creates a work tree with its own repository at `to`: the files of `commit`, and that one commit as history.
/// Nothing is shared with `repo`: no configuration, hooks, index or object store (ADR 0003).
///
/// # Errors
/// [`GitError`].
pub fn private_checkout(repo: &Path, commit: &str, to: &Path) -> Result<(), GitError> {
    init(to)?;
    let repo = std::path::absolute(repo).map_err(|source| GitError::Io { path: repo.to_owned(), source })?;
    Git::new(to)
        .args(["fetch", "--quiet", "--no-tags", "--depth=1", "--no-write-fetch-head"])
        .arg(format!("file://{}", repo.display()))
        .arg(commit)
        .run()?;
    check_out(to, commit)
}

fn init(to: &Path) -> Result<(), GitError> {
    std::fs::create_dir_all(to).map_err(|source| GitError::Io { path: to.to_owned(), source })?;
    Git::new(to).args(["init", "--quiet", "--template=", "--initial-branch=work"]).run().map(drop)
}

fn check_out(dir: &Path, commit: &str) -> Result<(), GitError> {
    Git::new(dir).args(["checkout", "--quiet", "--detach", "--force"]).arg(commit).run().map(drop)
}

/// Writes a pack with `commit` and everything that it consists of, but no history, into the directory `to`; answers the
/// file.
///
/// # Errors
/// [`GitError`].
pub fn pack(repo: &Path, commit: &str, to: &Path) -> Result<PathBuf, GitError> {
    let to = std::path::absolute(to).map_err(|source| GitError::Io { path: to.to_owned(), source })?;
    let objects = Git::new(repo).args(["rev-list", "--objects", "--max-count=1"]).arg(commit).run()?;
    let stem = to.join("base");
    let name = Git::new(repo).args(["pack-objects", "-q"]).arg(&stem).run_with(&objects)?;
    Ok(to.join(format!("base-{}.pack", String::from_utf8_lossy(&name).trim())))
}

/// Like [`private_checkout`] from a file that [`pack`] wrote. Every object is hashed on the way, so what is checked out is
/// `commit`, whoever made the pack.
///
/// # Errors
/// [`GitError`]; a pack without the commit is refused.
pub fn private_checkout_of_pack(pack: &Path, commit: &str, to: &Path) -> Result<(), GitError> {
    init(to)?;
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| GitError::Io { path, source }
    };
    let inside = to.join(".git/objects/pack/pack-base.pack");
    let shallow = to.join(".git/shallow");
    std::fs::copy(pack, &inside).map_err(io(&inside))?;
    Git::new(to).arg("index-pack").arg(&inside).run()?;
    std::fs::write(&shallow, format!("{commit}\n")).map_err(io(&shallow))?;
    check_out(to, commit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pack_gives_the_commit_without_history_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let repo = dir.path().join("repo");
        std::fs::create_dir_all(repo.join("sub")).unwrap();
        let git = || {
            let git = Git::new(&repo).args(["-c", "user.name=t", "-c", "user.email=t@example.invalid"]);
            git.env("GIT_AUTHOR_DATE", "2026-01-01T00:00:00Z")
                .env("GIT_COMMITTER_DATE", "2026-01-01T00:00:00Z")
        };
        git().args(["init", "--quiet"]).run().unwrap();
        for text in ["first", "second"] {
            std::fs::write(repo.join("sub/file"), text).unwrap();
            git().args(["add", "."]).run().unwrap();
            git().args(["commit", "--quiet", "-m", text]).run().unwrap();
        }
        let (first, second) =
            (resolve_commit(&repo, "HEAD~1").unwrap(), resolve_commit(&repo, "HEAD").unwrap());
        let packed = pack(&repo, &second, dir.path()).unwrap();

        let out = dir.path().join("out");
        private_checkout_of_pack(&packed, &second, &out).unwrap();
        assert_eq!(std::fs::read_to_string(out.join("sub/file")).unwrap(), "second");
        let count = Git::new(&out).args(["rev-list", "--count", "HEAD"]).line().unwrap();
        assert_eq!((count.as_str(), resolve_commit(&out, "HEAD").unwrap()), ("1", second));
        assert!(resolve_commit(&out, &first).is_err(), "history came along");

        // Another commit than the one in the pack, and a pack that was changed on its way.
        private_checkout_of_pack(&packed, &first, &dir.path().join("other")).unwrap_err();
        let mut bytes = std::fs::read(&packed).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        let broken = dir.path().join("broken.pack");
        std::fs::write(&broken, bytes).unwrap();
        let second = resolve_commit(&repo, "HEAD").unwrap();
        private_checkout_of_pack(&broken, &second, &dir.path().join("broken")).unwrap_err();
    }
}
