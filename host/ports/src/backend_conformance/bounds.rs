//! Bounded output, and what a worker can see.

use std::collections::BTreeSet;

use pangolin_core::entry::Isolation;
use serde_json::Value;

use super::{
    BackendFixture, Step,
    harness::{clean, ended, limits, open, say, stage},
};
use crate::{
    worker_backend::{Limits, Network, WorkerExit},
    worker_output::{CUT_KIND, EVENTS_FILE, STDERR_FILE},
};

/// A flood is cut, marked, and does not stop the worker.
pub async fn output_is_bounded_and_marked(fixture: &dyn BackendFixture) {
    let limit = 10_000;
    let line = r#"{"kind":"test.line","text":"0123456789abcdef"}"#.to_owned();
    let steps = [
        Step::Print { stream: "stdout", line: line.clone(), times: 20_000 },
        Step::Print { stream: "stderr", line: "complaint".to_owned(), times: 20_000 },
        Step::Exit { code: 6 },
    ];
    let staged = stage(fixture, "flood", &steps, Limits { output_bytes: limit, ..limits() });
    let backend = open(fixture).await;
    backend.ensure(&staged.spec).await.expect("ensure");
    assert_eq!(ended(&*backend, &staged).await, WorkerExit::Exited { code: 6 });

    let events = staged.result_file(EVENTS_FILE);
    let mut lines: Vec<Value> =
        events.lines().map(|line| serde_json::from_str(line).expect("every kept line parses")).collect();
    let marker = lines.pop().expect("there is a last line");
    assert_eq!(marker["kind"], CUT_KIND);
    assert_eq!(marker["limitBytes"], limit);
    assert_eq!(
        lines.len(),
        usize::try_from(limit).expect("fits") / (line.len() + 1),
        "as much is kept as fits"
    );
    let stderr = staged.result_file(STDERR_FILE);
    assert!(stderr.len() as u64 <= limit + 200, "{} bytes of stderr", stderr.len());
    assert!(stderr.starts_with("complaint\n") && stderr.contains("output cut after 10000 bytes"));
    clean(&*backend, &staged).await;
}

/// Below the limit nothing is added or lost, not even a last line without an end.
pub async fn small_output_is_kept_whole(fixture: &dyn BackendFixture) {
    let print = |stream, line: &str| Step::Print { stream, line: line.to_owned(), times: 2 };
    let steps = [print("stdout", r#"{"kind":"a"}"#), print("stderr", "ä"), Step::Exit { code: 0 }];
    let staged = stage(fixture, "small", &steps, limits());
    let backend = open(fixture).await;
    backend.ensure(&staged.spec).await.expect("ensure");
    ended(&*backend, &staged).await;
    assert_eq!(staged.result_file(EVENTS_FILE), "{\"kind\":\"a\"}\n{\"kind\":\"a\"}\n");
    assert_eq!(staged.result_file(STDERR_FILE), "ä\nä\n");
    clean(&*backend, &staged).await;
}

/// The worker gets its three directories and key, a short environment, and, in a container, nothing else.
pub async fn worker_sees_its_directories_and_little_else(fixture: &dyn BackendFixture) {
    let canary = fixture.scratch().join("canary");
    std::fs::write(&canary, "of the host").expect("write the canary");
    let other = stage(fixture, "neighbour", &[], limits());
    let paths = vec![
        canary.display().to_string(),
        other.spec.envelope_dir.display().to_string(),
        "/var/run/docker.sock".to_owned(),
        "/root".to_owned(),
        "/home".to_owned(),
    ];
    let staged = stage(fixture, "inspect", &[Step::Inspect { paths }, Step::Exit { code: 0 }], limits());
    let backend = open(fixture).await;
    backend.ensure(&staged.spec).await.expect("ensure");
    assert_eq!(ended(&*backend, &staged).await, WorkerExit::Exited { code: 0 });
    let seen: Value = serde_json::from_str(&staged.result_file("inspect.json")).expect("the worker's report");
    say(&format!("seen by the worker: {seen}"));

    let names = |key: &str| -> BTreeSet<String> {
        let list = seen[key].as_array().expect("a list");
        list.iter().map(|name| name.as_str().expect("a text").to_owned()).collect()
    };
    let environment = names("env");
    for name in
        ["PANGOLIN_ENVELOPE_DIR", "PANGOLIN_WORKSPACE_DIR", "PANGOLIN_RESULT_DIR", "PANGOLIN_RESULT_KEY"]
    {
        assert!(environment.contains(name), "{name} is missing");
    }
    assert_eq!(seen["key"], staged.spec.result_key);
    assert_eq!(seen["workspace_writable"], true);
    if fixture.isolation() == Isolation::Container {
        let short = ["HOSTNAME"];
        let extra: Vec<_> = environment.iter().filter(|name| !ALLOWED.contains(&name.as_str())).collect();
        assert!(extra.iter().all(|name| short.contains(&name.as_str())), "unexpected variables {extra:?}");
    } else {
        let extra: Vec<_> = environment.iter().filter(|name| !ALLOWED.contains(&name.as_str())).collect();
        assert!(extra.is_empty(), "unexpected variables {extra:?}");
    }
    if fixture.hides_host() {
        assert_eq!(names("existing"), BTreeSet::new(), "paths of the host are visible");
        assert_eq!(seen["envelope_writable"], false);
        assert_eq!(seen["root_writable"], false);
        assert_ne!(seen["uid"], 0, "the worker must not be root");
        assert_eq!(seen["capabilities"], "0000000000000000");
        assert_eq!(seen["no_new_privs"], "1");
        if fixture.network() == Network::None {
            assert_eq!(names("interfaces"), BTreeSet::from(["lo".to_owned()]));
        }
    }
    clean(&*backend, &staged).await;
}

const ALLOWED: [&str; 8] = [
    "PATH",
    "LANG",
    "HOME",
    "TMPDIR",
    "PANGOLIN_ENVELOPE_DIR",
    "PANGOLIN_WORKSPACE_DIR",
    "PANGOLIN_RESULT_DIR",
    "PANGOLIN_RESULT_KEY",
];
