//! `--remote`: the verbs of runs on a whole stack of emulators (`tests/aws-e2e` says what is real in it and what stands in).
//! Nobody checks rights there.

use std::{env, path::PathBuf, time::Duration};

use pangolin_aws_e2e::{ANCHOR, EmulatedStack, Options};
use serde_json::Value;

use crate::harness::{Output, Place};

const CONFIG: &str = r#"namespace = "team"
[workspace]
repo = "repo"
[queues.default]
concurrency = 4
[executors.dispatch]
backend = "fargate"
network = "host"
image = "registry.example/worker@sha256:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
cpus = 0.25
memory_mb = 512
grace_seconds = 1
[retry]
max_attempts = 1
timeout_seconds = 120
"#;

/// The directory with the programs of the stack; `None` when they are not built, after a line that says so.
fn programs() -> Option<PathBuf> {
    let dir = PathBuf::from(env!("CARGO_BIN_EXE_pangolin")).parent().unwrap().to_owned();
    let needed =
        ["pangolin-lambda-inbox", "pangolin-lambda-tick", "pangolin-lambda-task-events", "pangolin-worker"];
    let missing: Vec<_> = needed.into_iter().filter(|name| !dir.join(name).is_file()).collect();
    if missing.is_empty() {
        return Some(dir);
    }
    let required = env::var("PANGOLIN_REQUIRE_EMULATORS").is_ok_and(|value| value == "1");
    let message =
        format!("--remote needs programs that are not built: cargo build -p {}", missing.join(" -p "));
    assert!(!required, "{message}");
    #[expect(clippy::print_stderr, reason = "a skipped test says so, also where no log is written")]
    {
        eprintln!("SKIPPED {message}");
    }
    None
}

fn project() -> Place {
    let place = Place::new();
    place.write("pangolin.toml", CONFIG);
    place.write("repo/README.md", "a project\n");
    let git = |args: &[&str]| {
        let mut command = std::process::Command::new("git");
        let output = command.arg("-C").arg(place.path().join("repo")).args(args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    git(&["init", "--quiet"]);
    git(&["add", "."]);
    git(&["-c", "user.name=t", "-c", "user.email=t@example.invalid", "commit", "--quiet", "-m", "begin"]);
    place.write("fan.json", plan("fan", "write", &["a", "b"]));
    place.write("long.json", plan("long", "sleep", &["a"]));
    place
}

fn plan(run: &str, agent: &str, items: &[&str]) -> String {
    let items: Vec<Value> = items
        .iter()
        .map(|id| {
            serde_json::json!({ "id": id, "executor": "dispatch", "inputs": { "subagent": agent },
                "depends_on": [], "resourceLocks": [] })
        })
        .collect();
    serde_json::json!({ "id": run, "queue": "default", "items": items }).to_string()
}

/// The user's machine and the stack.
struct World {
    place: Place,
    stack: EmulatedStack,
}

impl World {
    /// Runs the program while minutes of the schedule pass, one each second: the stack's work is done by other processes, so
    /// there is nothing else to wait on.
    async fn run(&self, args: &[&str]) -> Output {
        let minutes = async {
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                self.stack.lambda.tick_clock().await.unwrap();
            }
        };
        let run = self.place.run_async(args, self.stack.environment());
        tokio::select! {
            output = tokio::time::timeout(Duration::from_secs(180), run) => {
                output.unwrap_or_else(|_| panic!("{args:?} does not end:\n{}", self.stack.logs()))
            }
            () = minutes => unreachable!("it never ends"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_verbs_of_runs_work_on_a_stack() {
    let Some(programs) = programs() else { return };
    let place = project();
    let Some(stack) = EmulatedStack::deploy(&programs, place.path(), Options::default()).await else {
        return;
    };
    let world = World { place, stack };
    for (name, script) in [("write", "echo more > part; echo wrote it"), ("sleep", "echo asleep; sleep 600")]
    {
        let argv = format!("argv={}", serde_json::json!(["sh", "-c", script]));
        let args = ["subagent", "register", "--name", name, "--adapter", "command", "--param", &argv];
        world.run(&args).await.code(0);
    }

    // Submitted, watched to the end, looked at.
    let submitted = world.run(&["orch", "submit", "fan.json"]).await.code(0);
    assert_eq!(submitted.stdout, "fan\n");
    let watched = world.run(&["orch", "watch", "fan", "--json", "--exit-code"]).await.code(0);
    let last: Value = serde_json::from_str(watched.stdout.lines().last().unwrap()).unwrap();
    assert_eq!((&last["terminal"], &last["state"]), (&Value::Bool(true), &"done".into()), "{last}");
    let runs = world.run(&["orch", "runs", "--json"]).await.code(0).json();
    assert_eq!(
        (&runs["runs"][0]["run"], &runs["runs"][0]["state"]),
        (&"fan".into(), &"done".into()),
        "{runs}"
    );
    let status = world.run(&["orch", "status", "fan", "--json"]).await.code(0).json();
    let items = status["items"].as_array().unwrap();
    assert!(items.len() == 2 && items.iter().all(|item| item["status"] == "done"), "{status}");
    assert_eq!(world.run(&["orch", "logs", "fan/a"]).await.code(0).stdout, "wrote it\n");
    let patch = world.run(&["patch", "show", "fan/b"]).await.code(0).stdout;
    assert!(patch.contains("+++ b/part") && patch.contains("+more"), "{patch}");

    // The record verifies offline; who asks the anchor knows more.
    let bundle = world.run(&["orch", "audit", "fan"]).await.code(0);
    let report =
        world.place.run_with_stdin(&["verify", "-", "--json"], bundle.stdout.as_bytes()).code(0).json();
    assert_eq!(report["intact"], true, "{report}");
    assert!(bundle.stderr.contains("tamper-evident"), "{}", bundle.stderr);
    world.run(&["orch", "audit", "fan", "--out", "fan.bundle"]).await.code(0);
    let live = ["verify", "--live", "fan.bundle", "--json", "--anchor"];
    let anchor = format!("{}/{ANCHOR}", world.stack.s3.endpoint());
    let report = world.run(&[&live[..], &[&anchor]].concat()).await.code(0).json();
    assert_eq!(
        (&report["claim"], &report["checks"]["anchor"]["ok"]),
        (&"tamper-evident".into(), &true.into())
    );
    let elsewhere = world.run(&[&live[..], &[&format!("{anchor}/team-a/")]].concat()).await.code(1);
    let elsewhere = elsewhere.json();
    let detail = elsewhere["failure"]["detail"].as_str().unwrap();
    assert!(detail.contains("/team-a, where the anchor is known to be"), "{elsewhere}");
    world.run(&[&live[..], &["anchor"]].concat()).await.code(2).says(&["\"anchor\"", "s3://<bucket>"]);

    // Cancelled while its worker runs.
    world.run(&["orch", "submit", "long.json"]).await.code(0);
    loop {
        let status = world.run(&["orch", "status", "long", "--json"]).await;
        if status.code == Some(0) && status.json()["items"][0]["status"] == "running" {
            break;
        }
        assert!([Some(0), Some(7)].contains(&status.code), "{}", status.stderr);
        tokio::time::sleep(Duration::from_secs(1)).await;
        world.stack.lambda.tick_clock().await.unwrap();
    }
    world.run(&["orch", "audit", "long"]).await.code(4).says(&["has not ended"]);
    world.run(&["orch", "cancel", "long"]).await.code(0);
    let watched = world.run(&["orch", "watch", "long", "--json", "--exit-code"]).await.code(1);
    let last: Value = serde_json::from_str(watched.stdout.lines().last().unwrap()).unwrap();
    assert_eq!(last["state"], "cancelled", "{last}");
    world.run(&["orch", "status", "nothing"]).await.code(5);
    assert_eq!(world.stack.lambda.violations(), Vec::<String>::new());
}
