//! One deployment in a fresh directory.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{DEADLINE, binaries, daemon::Daemon, output::Output, root, watch::Watch, xtask};

/// Everything a worker may take from the machine is decided by this configuration.
const CONFIG: &str = "namespace = \"e2e\"
[workspace]
repo = \"repo\"
[queues.default]
concurrency = 2
[queues.other]
concurrency = 2
[executors.dispatch]
backend = \"process\"
isolation = \"sandbox\"
grace_seconds = 2
[retry]
max_attempts = 2
base_ms = 50
cap_ms = 100
timeout_seconds = 60
";

/// A deployment.
pub struct World {
    dir: tempfile::TempDir,
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl World {
    /// An initialised deployment whose workspaces come from a small repository.
    ///
    /// # Panics
    /// When it cannot be set up.
    #[must_use]
    pub fn new() -> Self {
        let world = Self::empty();
        world.write("repo/README.md", "a project\n");
        world.commit_repo();
        world.write("pangolin.toml", CONFIG);
        world.run(&["init"]).ok();
        world
    }

    /// A copy of an example, with its repository committed. Not initialised.
    ///
    /// # Panics
    /// When it cannot be set up.
    #[must_use]
    pub fn example(name: &str) -> Self {
        let world = Self::empty();
        copy(&root().join("examples").join(name), world.path());
        world.commit_repo();
        world
    }

    /// What `cargo xtask example <name>` leaves behind, and what it printed.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn ran_example(name: &str) -> (Self, Output) {
        let world = Self::empty();
        let programs = binaries();
        let output = Command::new(xtask())
            .args(["example", name, "--built", "--into"])
            .arg(world.path())
            .env("PANGOLIN_BIN", &programs.pangolin)
            .env("PANGOLIN_WORKER", &programs.worker)
            .stdin(Stdio::null())
            .output()
            .expect("xtask");
        let output = Output {
            command: format!("cargo xtask example {name}"),
            code: output.status.code(),
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        };
        (world, output)
    }

    fn empty() -> Self {
        Self { dir: tempfile::tempdir().expect("temporary directory") }
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Writes a file.
    ///
    /// # Panics
    /// When that fails.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).expect("directory");
        fs::write(&path, content).expect("file");
        path
    }

    fn commit_repo(&self) {
        for arguments in [
            &["init", "--quiet", "--initial-branch=main"][..],
            &["add", "--all"],
            &["-c", "user.name=e2e", "-c", "user.email=e2e@localhost", "commit", "--quiet", "--message=base"],
        ] {
            self.git(arguments);
        }
    }

    /// git in `repo`, with nobody's configuration.
    ///
    /// # Panics
    /// When it fails.
    pub fn git(&self, arguments: &[&str]) -> String {
        let output = Command::new("git")
            .args(arguments)
            .current_dir(self.path().join("repo"))
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .output()
            .expect("git");
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// `pangolin` in the directory, with nothing of the developer's environment.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let programs = binaries();
        let mut command = Command::new(&programs.pangolin);
        command.args(arguments).current_dir(self.path()).env_clear().stdin(Stdio::null());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", self.path());
        // A busy machine may take long to answer.
        command.env("PANGOLIN_WAIT", "60");
        command.env("LANG", "C.UTF-8").env("PANGOLIN_WORKER", &programs.worker);
        command
    }

    /// Runs `pangolin` to its end.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn run(&self, arguments: &[&str]) -> Output {
        let output = self.command(arguments).output().expect("pangolin");
        Output {
            command: format!("pangolin {}", arguments.join(" ")),
            code: output.status.code(),
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Starts the daemon and waits until it serves.
    #[must_use]
    pub fn serve(&self) -> Daemon {
        Daemon::start(self.command(&["orch", "serve"]), "serving (pid")
    }

    /// Starts a daemon next to one that serves already.
    #[must_use]
    pub fn stand_by(&self) -> Daemon {
        Daemon::start(self.command(&["orch", "serve"]), "standing by")
    }

    /// Registers an agent that runs a shell script.
    pub fn agent(&self, name: &str, script: &str) {
        let argv = format!("argv={}", json!(["sh", "-c", script]));
        self.run(&["subagent", "register", "--name", name, "--adapter", "command", "--param", &argv]).ok();
    }

    /// Writes a plan of `(item, agent, depends on)` and submits it.
    pub fn submit(&self, run: &str, items: &[(&str, &str, &[&str])]) {
        let plan = self.plan(run, items, &json!({}));
        self.run(&["orch", "submit", &plan]).ok();
    }

    /// Writes a plan; `more` is merged into every item.
    #[must_use]
    pub fn plan(&self, run: &str, items: &[(&str, &str, &[&str])], more: &Value) -> String {
        let items: Vec<Value> = items
            .iter()
            .map(|(id, agent, after)| {
                let mut item = json!({
                    "id": id, "executor": "dispatch", "inputs": { "subagent": agent },
                    "depends_on": after, "resourceLocks": [],
                });
                if let (Some(item), Some(more)) = (item.as_object_mut(), more.as_object()) {
                    item.extend(more.clone());
                }
                item
            })
            .collect();
        let name = format!("{run}.json");
        self.write(&name, json!({ "id": run, "queue": "default", "items": items }).to_string());
        name
    }

    /// Follows a run.
    #[must_use]
    pub fn watch(&self, run: &str) -> Watch {
        Watch::start(self.command(&["orch", "watch", run]))
    }

    /// Follows a run to its end and answers its final state.
    ///
    /// # Panics
    /// When it does not end.
    #[must_use]
    pub fn finish(&self, run: &str) -> Value {
        self.watch(run).until_terminal();
        self.status(run)
    }

    /// The run as `orch status --json` shows it.
    #[must_use]
    pub fn status(&self, run: &str) -> Value {
        self.run(&["orch", "status", run, "--json"]).ok().json()
    }

    /// Waits until no directory of a dispatch is left: each holds the secrets of its worker and what its agent wrote, and the
    /// daemon removes it after the end of the item is on record.
    ///
    /// # Panics
    /// When one stays.
    pub fn until_cleaned_up(&self) {
        let end = Instant::now() + DEADLINE;
        let dispatches = self.path().join(".pangolin/dispatches");
        let left = || match fs::read_dir(&dispatches) {
            Ok(entries) => entries.count(),
            // Nothing was ever laid out.
            Err(error) if error.kind() == ErrorKind::NotFound => 0,
            Err(error) => panic!("{}: {error}", dispatches.display()),
        };
        while left() > 0 {
            assert!(
                Instant::now() < end,
                "directories of ended dispatches are left in {}",
                dispatches.display()
            );
            thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// Assembles the bundle and asserts that it verifies.
    ///
    /// # Panics
    /// When it does not.
    #[must_use]
    pub fn intact_bundle(&self, run: &str) -> Vec<u8> {
        let bundle = self.run(&["orch", "audit", run]).ok().stdout;
        let path = self.write(&format!("{run}.bundle.json"), &bundle);
        let report = self.run(&["verify", &path.to_string_lossy(), "--json"]).ok().json();
        assert_eq!(report["intact"], true, "{report}");
        bundle
    }
}

/// One item of `orch status --json`.
///
/// # Panics
/// When the run has no such item.
#[must_use]
pub fn item<'a>(run: &'a Value, id: &str) -> &'a Value {
    let items = run["items"].as_array().expect("items");
    items.iter().find(|item| item["id"] == id).unwrap_or_else(|| panic!("no item {id} in {run}"))
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("directory");
    for entry in fs::read_dir(from).expect("example") {
        let entry = entry.expect("entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("type").is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("copy");
        }
    }
}
