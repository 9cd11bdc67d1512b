//! Runs that several tests have, and what is to be true of them in the end.

use std::{fs, path::Path, time::Duration};

use pangolin_audit::{
    bundle::Bundle,
    report::Claim,
    verify::{Trust, verify_bundle_live},
};
use pangolin_core::ids::RunId;
use pangolin_ports::anchor::check_note;
use pangolin_runtime::{
    deployment::{Deployment, SubmitOptions},
    registry::{AdapterBinding, SubagentDoc},
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::stack::{EmulatedStack, IMAGE, git};

/// What may differ between projects.
#[derive(Debug, Clone, Copy)]
pub struct Project<'a> {
    /// Whether workspaces start with what a repository has. Otherwise they start empty.
    pub repository: bool,
    /// More lines of the executor's section.
    pub executor: &'a str,
}

impl Project<'_> {
    /// A directory with a project: a queue `default`, a queue `ci` with the pipeline pattern, and tasks of Fargate.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn make(self) -> TempDir {
        let dir = tempfile::tempdir().expect("a directory");
        let repo = if self.repository { "[workspace]\nrepo = \"repo\"\n" } else { "" };
        let config = format!(
            "namespace = \"scenes\"\n{repo}[queues.default]\nconcurrency = 4\n[queues.ci]\nconcurrency = 2\npattern = \"pipeline\"\n\
             [executors.dispatch]\nbackend = \"fargate\"\nnetwork = \"host\"\nimage = \"{IMAGE}\"\ncpus = 0.25\nmemory_mb = 512\n\
             grace_seconds = 2\n{}\n[retry]\nmax_attempts = 2\nbase_ms = 50\ncap_ms = 100\ntimeout_seconds = 60\n",
            self.executor
        );
        fs::write(dir.path().join("pangolin.toml"), config).expect("a file");
        if self.repository {
            repository(&dir.path().join("repo"));
        }
        dir
    }
}

/// A repository with one commit.
pub(crate) fn repository(repo: &Path) {
    fs::create_dir(repo).expect("a directory");
    fs::write(repo.join("README.md"), "a project\n").expect("a file");
    git(repo, &["init", "--quiet"]);
    git(repo, &["add", "."]);
    git(
        repo,
        &["-c", "user.name=t", "-c", "user.email=t@example.invalid", "commit", "--quiet", "-m", "begin"],
    );
}

fn item(id: &str, inputs: Value, more: &Value) -> Value {
    let mut item =
        json!({ "id": id, "executor": "dispatch", "inputs": inputs, "depends_on": [], "resourceLocks": [] });
    if let (Some(item), Some(more)) = (item.as_object_mut(), more.as_object()) {
        item.extend(more.clone());
    }
    item
}

impl EmulatedStack {
    /// Registers the agents of all scenes.
    ///
    /// # Panics
    /// When one is refused.
    pub async fn cast(&self, home: &Deployment) {
        self.agent(home, "write", "echo more > part-$PANGOLIN_ITEM_ID").await;
        self.agent(home, "join", "echo joined > joined.txt").await;
        // The workspace lies in a directory that may be in a repository of its own.
        let apply = "GIT_CEILING_DIRECTORIES=$(dirname \"$(pwd -P)\") git apply inputs/work";
        self.agent(home, "implement", "echo bad > work.txt").await;
        self.agent(home, "fix", &format!("{apply} && cat inputs/findings && echo good > work.txt")).await;
        let publish = format!("{apply} && grep -q good work.txt && mkdir -p outputs && cp work.txt outputs/");
        self.agent(home, "publish", &publish).await;
        let review = format!("{apply} && mkdir -p outputs && cat work.txt > outputs/findings");
        let verify = json!({ "command": "grep -q good work.txt", "timeout": 30 });
        let review = SubagentDoc {
            name: "review".to_owned(),
            system_prompt: None,
            prompt_template: None,
            model: None,
            capabilities: Vec::new(),
            adapter: AdapterBinding {
                id: "command".to_owned(),
                params: json!({ "argv": ["sh", "-c", review] }),
            },
            verify: Some(serde_json::from_value(verify).expect("a command")),
            context_requires: Vec::new(),
            require_changes: None,
        };
        home.registry().register_subagent(&review, home.now()).await.expect("registered");
    }

    /// Submits three items and one that joins them.
    ///
    /// # Panics
    /// When it is refused at once.
    pub async fn submit_fan(&self, home: &Deployment, run: &str) {
        let items: [(&str, &str, &[&str]); 4] = [
            ("a", "write", &[]),
            ("b", "write", &[]),
            ("c", "write", &[]),
            ("join", "join", &["a", "b", "c"]),
        ];
        self.submit(home, run, &items).await;
    }

    /// Submits work whose review is red: the pattern adds a fix and another review, and what waits for the review gets the
    /// fixed work.
    ///
    /// # Panics
    /// When it is refused at once.
    pub async fn submit_circle(&self, home: &Deployment, run: &str) {
        let work = json!({ "needs": { "work": { "from": "implement", "select": { "kind": "patch" } } } });
        let gate = json!({
            "subagent": "review",
            "gate": {
                "onRed": "spawn-fix", "subject": "implement", "maxFixAttempts": 2,
                "fixTemplate": { "executor": "dispatch", "inputs": { "subagent": "fix" } },
            },
        });
        let mut publish = item("publish", json!({ "subagent": "publish" }), &work);
        publish["depends_on"] = json!(["review"]);
        let items = [
            item("implement", json!({ "subagent": "implement" }), &json!({})),
            item("review", gate, &work),
            publish,
        ];
        let plan = json!({ "id": run, "queue": "ci", "items": items }).to_string();
        let options = SubmitOptions { queue: None, actor: "human:test".to_owned() };
        home.submit(plan.as_bytes(), options).await.expect("submitted");
    }

    /// An auditor who asks the anchor finds the bundle of a run tamper-evident. A run that has just ended may not be anchored
    /// yet: that is done by the look that ended it, or by a later one.
    ///
    /// # Panics
    /// When it is not.
    pub async fn is_tamper_evident(&self, home: &Deployment, run: &str) {
        const MINUTES: usize = 60;
        for minute in 0.. {
            let bundle = home.bundle(&RunId::new(run).expect("an id")).await.expect("a bundle");
            let parsed = Bundle::parse(&bundle).expect("a bundle that can be read");
            let keys = [home.vkey().parse().expect("a key")];
            let seen = check_note(&self.anchor(), &parsed.log.checkpoint, &keys).await.expect("an anchor");
            let report = verify_bundle_live(&bundle, &Trust::parse(&home.vkey()).expect("a key"), &seen);
            if report.claim == Some(Claim::TamperEvident) {
                return;
            }
            let waits = report.failure.as_ref().is_some_and(|failure| failure.check == "anchor");
            assert!(waits && minute < MINUTES, "{run}: {report:#?}\n{}", self.logs());
            self.lambda.tick_clock().await.expect("a tick");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// Every item of a run is done and nothing ran twice, and the bundle of the run is tamper-evident. Answers how many workers
    /// it had.
    ///
    /// # Panics
    /// When that is not so.
    pub async fn ran_once(&self, home: &Deployment, run: &str) -> usize {
        let view = home.run_view(&RunId::new(run).expect("an id")).await.expect("a view");
        let attempts: Vec<usize> = view.items.iter().map(|item| item.attempts.len()).collect();
        assert!(attempts.iter().all(|attempts| *attempts <= 1), "{run}: {view:#?}");
        self.is_tamper_evident(home, run).await;
        attempts.into_iter().sum()
    }
}
