//! One deployment with one scripted model and agents that drive the real program.

use std::{
    cell::RefCell,
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use pangolin_e2e::{
    DEADLINE,
    daemon::Daemon,
    watch::Watch,
    world::{World, item},
};
use pangolin_model_server::{Script, Seen, Server, serve};
use serde_json::{Value, json};

/// The provider key. Must be found nowhere but in the secret store and in the requests to the model.
pub(crate) const KEY: &str = "sk-ant-e2e-4f1c77a0b2d94e55-not-a-real-key";

/// Env bundle with the key.
pub(crate) const MODELS: &str = "models";

/// The only item of most runs.
pub(crate) const ITEM: &str = "work";

/// A deployment whose daemon serves.
pub(crate) struct Session {
    pub(crate) world: World,
    pub(crate) model: Server,
    pub(crate) program: PathBuf,
    daemon: RefCell<Daemon>,
}

/// The program under test, or `None` after saying so.
fn program() -> Option<PathBuf> {
    let found = std::env::var_os("PANGOLIN_TEST_CLAUDE").filter(|path| !path.is_empty());
    if found.is_none() {
        // Not `eprintln!`: the test harness would keep that to itself.
        let said = writeln!(
            io::stderr(),
            "SKIPPED: no claude. PANGOLIN_TEST_CLAUDE is not set; `cargo xtask test` installs the program and sets it"
        );
        said.expect("stderr");
    }
    let path = PathBuf::from(found?);
    // The sandbox shows the directory of the program itself, not the one of npm's link to it.
    Some(
        path.canonicalize()
            .unwrap_or_else(|error| panic!("PANGOLIN_TEST_CLAUDE {}: {error}", path.display())),
    )
}

fn config(program: &Path) -> String {
    let directory = program.parent().expect("directory of the program");
    // The model listens on the host's loopback, so the worker needs the host's network.
    format!(
        "namespace = \"e2e\"
[workspace]
repo = \"repo\"
[queues.default]
concurrency = 2
[executors.dispatch]
backend = \"process\"
isolation = \"sandbox\"
network = \"host\"
grace_seconds = 5
read_only_paths = [{}]
[retry]
max_attempts = 2
base_ms = 50
cap_ms = 100
timeout_seconds = 120
",
        json!(directory)
    )
}

impl Session {
    /// A deployment, the key registered, the daemon serving. `None`: there is no program to test.
    pub(crate) fn start(script: Script) -> Option<Self> {
        let program = program()?;
        let world = World::new();
        world.write("pangolin.toml", config(&program));
        register_key(&world);
        let model = serve(script).expect("model server");
        let mut serving = world.command(&["orch", "serve"]);
        // At this level the search for the key means something.
        serving.env("PANGOLIN_LOG", "warn,pangolin=trace");
        let daemon = RefCell::new(Daemon::start(serving, "serving (pid"));
        Some(Self { world, model, program, daemon })
    }

    /// Registers an agent; `more` are further flags of `subagent register`.
    pub(crate) fn agent(&self, name: &str, more: &[&str]) {
        let program = format!("program={}", self.program.display());
        let url = format!("baseUrl={}", self.model.base_url());
        let mut arguments = vec!["subagent", "register", "--name", name, "--adapter", "claude-code"];
        arguments.extend(["--prompt-template", "{{task}}", "--model", "standard"]);
        // One retry instead of ten: they take minutes.
        arguments.extend(["--param", &program, "--param", &url, "--param", "maxRetries=1"]);
        arguments.extend(more);
        self.world.run(&arguments).ok();
    }

    /// An item for `agent` with a task, the key and whatever `more` says.
    pub(crate) fn item(id: &str, agent: &str, task: &str, env: &[&str], more: &Value) -> Value {
        let mut item = json!({
            "id": id, "executor": "dispatch", "depends_on": [], "resourceLocks": [],
            "inputs": { "subagent": agent, "workerInput": { "task": task }, "env": env },
        });
        if let (Some(item), Some(more)) = (item.as_object_mut(), more.as_object()) {
            item.extend(more.clone());
        }
        item
    }

    /// Submits items as a run and follows it.
    pub(crate) fn submit(&self, run: &str, items: &[Value]) -> Watch {
        let plan = json!({ "id": run, "queue": "default", "items": items });
        let name = format!("{run}.json");
        self.world.write(&name, plan.to_string());
        self.world.run(&["orch", "submit", &name]).ok();
        self.world.watch(run)
    }

    /// Runs one item to its end and answers the state of the run, after everything that holds for every run was
    /// asserted.
    pub(crate) fn run(&self, run: &str, task: &str, env: &[&str], more: &Value) -> Value {
        self.submit(run, &[Self::item(ITEM, "agent", task, env, more)]).until_terminal();
        self.sealed(run)
    }

    /// The state of an ended run: its bundle verifies, and the key is nowhere.
    pub(crate) fn sealed(&self, run: &str) -> Value {
        let bundle = String::from_utf8(self.world.intact_bundle(run)).expect("bundle is text");
        let state = self.world.status(run);
        for item in state["items"].as_array().expect("items") {
            for attempt in item["attempts"].as_array().expect("attempts") {
                if let Some(cost) = attempt["usage"]["cost_microusd"].as_u64() {
                    assert!(
                        bundle.contains(&format!("\"cost_microusd\":{cost}")),
                        "the cost is not sealed: {attempt:#}"
                    );
                }
            }
        }
        self.world.until_cleaned_up();
        self.key_is_nowhere();
        state
    }

    /// The transcript of an attempt as `orch logs` shows it.
    pub(crate) fn transcript(&self, run: &str, attempt: u32) -> Vec<Value> {
        let of = format!("{run}/{ITEM}");
        let text = self.world.run(&["orch", "logs", &of, "--attempt", &attempt.to_string()]).ok().text();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
            .collect()
    }

    /// Requests for an answer of the model so far.
    pub(crate) fn turns(&self) -> Vec<Seen> {
        self.model
            .seen()
            .into_iter()
            .filter(|seen| seen.line.starts_with("POST /v1/messages?") || seen.line == "POST /v1/messages")
            .collect()
    }

    /// Waits until the model was asked with at least this many tool results in the conversation.
    pub(crate) fn until_asked_after(&self, results: usize) {
        let end = Instant::now() + DEADLINE;
        let asked = |seen: &Seen| {
            let messages = seen.body["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
            let blocks = messages.iter().filter_map(|message| message["content"].as_array()).flatten();
            blocks.filter(|block| block["type"] == "tool_result").count() >= results
        };
        while !self.turns().iter().any(asked) {
            assert!(Instant::now() < end, "the model was not asked: {:#?}", self.model.seen());
            thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// Looks for the key in every file of the deployment, the bundle and the plan included, and in what the daemon
    /// said.
    fn key_is_nowhere(&self) {
        let (mut files, mut stores) = (0, 0);
        let mut next = vec![self.world.path().to_owned()];
        while let Some(path) = next.pop() {
            let Ok(meta) = path.symlink_metadata() else { continue };
            if meta.is_dir() && path.file_name().is_some_and(|name| name == "secrets") {
                stores += 1;
            } else if meta.is_dir() {
                next.extend(fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
            } else if let Ok(bytes) = fs::read(&path) {
                files += 1;
                let found = bytes.windows(KEY.len()).any(|window| window == KEY.as_bytes());
                assert!(!found, "the key is in {}", path.display());
            }
        }
        assert!(files > 10 && stores == 1, "looked at {files} files and left out {stores} stores");
        let log = self.daemon.borrow_mut().log();
        assert!(!log.contains(KEY), "the daemon said the key: {log}");
    }
}

/// Through stdin, as a person would who keeps it out of the process list.
fn register_key(world: &World) {
    let secret = "ANTHROPIC_API_KEY=inline:-";
    let mut command = world.command(&["env", "register", "--name", MODELS, "--secret", secret]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("pangolin");
    writeln!(child.stdin.take().expect("stdin"), "{KEY}").expect("key");
    assert!(child.wait().expect("wait").success(), "env register");
}

/// The only attempt of the only item.
#[track_caller]
pub(crate) fn only_attempt(run: &Value) -> &Value {
    let attempts = item(run, ITEM)["attempts"].as_array().expect("attempts");
    assert_eq!(attempts.len(), 1, "{run:#}");
    &attempts[0]
}

/// Asserts how the last attempt failed; `why` of the item must say the same as the ledger.
#[track_caller]
pub(crate) fn assert_failed(run: &Value, class: &str, attempts: usize, says: &[&str]) {
    let item = item(run, ITEM);
    assert_eq!(run["state"], "failed", "{run:#}");
    assert_eq!(item["status"], "failed", "{run:#}");
    let all = item["attempts"].as_array().expect("attempts");
    assert_eq!(all.len(), attempts, "{run:#}");
    for attempt in all {
        let failure = &attempt["failure"];
        assert_eq!(
            (&failure["reason"], &failure["class"]),
            (&json!("provider-failed"), &json!(class)),
            "{run:#}"
        );
        let message = failure["message"].as_str().expect("message");
        for part in says {
            assert!(message.contains(part), "{part:?} is not in {message:?}");
        }
        assert!(item["why"].as_str().expect("why").ends_with(message) || attempts > 1, "{run:#}");
        assert!(attempt["transcript"].is_string(), "the transcript is kept: {run:#}");
    }
}
