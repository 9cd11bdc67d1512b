//! Malformed, huge, deep and hostile plans: through `validate`, through `submit` and straight into the inbox.

use std::{fmt::Write as _, fs};

use pangolin_e2e::{daemon::Daemon, output::Output, world::World};
use serde_json::{Value, json};

use crate::support::{self, until};

fn plan(items: Value) -> Value {
    json!({ "id": "p", "queue": "default", "items": items })
}

fn one(more: &Value) -> Value {
    let mut item = json!({
        "id": "a", "executor": "dispatch", "inputs": { "subagent": "quick" }, "depends_on": [], "resourceLocks": [],
    });
    item.as_object_mut().expect("item").extend(more.as_object().expect("more").clone());
    plan(json!([item]))
}

/// Name, bytes, and what the answer must contain.
fn hostile() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let text = |value: Value| value.to_string().into_bytes();
    let mut deep = br#"{"id":"p","queue":"default","items":"#.to_vec();
    deep.extend(std::iter::repeat_n(b'[', 10_000));
    let mut deep_closed = deep.clone();
    deep_closed.extend(std::iter::repeat_n(b']', 10_000));
    deep_closed.push(b'}');
    let mut deep_input = br#"{"id":"p","queue":"default","items":[{"id":"a","executor":"dispatch","depends_on":[],"resourceLocks":[],"inputs":{"subagent":"quick","workerInput":"#.to_vec();
    for _ in 0..10_000 {
        deep_input.extend(br#"{"x":"#);
    }
    deep_input.push(b'1');
    deep_input.extend(std::iter::repeat_n(b'}', 10_000));
    deep_input.extend(b"}}]}");
    let long = "x".repeat(30 << 20);
    let raw = |middle: &str| {
        format!(r#"{{"id":"p","queue":"default","items":[{{"id":"a","executor":"dispatch","inputs":{{"subagent":"quick"}},"depends_on":[],"resourceLocks":[],{middle}}}]}}"#)
            .into_bytes()
    };
    vec![
        ("empty", Vec::new(), "not JSON"),
        ("not-json", b"{ not json".to_vec(), "not JSON"),
        ("a-number", b"17".to_vec(), "object"),
        ("zeros", vec![0; 4096], "not JSON"),
        ("not-utf8", b"{\"id\":\"\xff\xfe\"}".to_vec(), "unicode"),
        ("lone-surrogate", br#"{"id":"\ud800"}"#.to_vec(), ""),
        ("nan", raw(r#""priority":NaN"#), "not JSON"),
        ("infinity", raw(r#""budgetUsd":1e999"#), ""),
        ("huge-number", raw(r#""timeoutSeconds":123456789012345678901234567890"#), "/items/0/timeoutSeconds"),
        ("negative", raw(r#""timeoutSeconds":-1"#), "/items/0/timeoutSeconds"),
        ("duplicate-key", raw(r#""priority":1,"priority":2"#), "priority"),
        ("duplicate-id", br#"{"id":"p","id":"q","queue":"default","items":[]}"#.to_vec(), "id"),
        ("unclosed-deep", deep, "levels"),
        ("deep", deep_closed, "levels"),
        ("deep-input", deep_input, "levels"),
        (
            "long-string",
            text(one(&json!({ "inputs": { "subagent": "quick", "workerInput": long } }))),
            "at most",
        ),
        ("long-id", text(one(&json!({ "id": "x".repeat(30 << 20) }))), "at most"),
        ("control-id", text(one(&json!({ "id": "a\u{1b}[2J\nb" }))), "/items/0/id"),
        ("traversal-id", text(one(&json!({ "id": "../../etc/passwd" }))), "/items/0/id"),
        ("slash-id", text(one(&json!({ "id": "a/b" }))), "/items/0/id"),
        ("dot-id", text(one(&json!({ "id": ".." }))), "/items/0/id"),
        ("traversal-run", text(json!({ "id": "../x", "queue": "default", "items": [] })), "/id"),
        ("self", text(one(&json!({ "depends_on": ["a"] }))), "/items/0/depends_on"),
        (
            "needs-key",
            text(one(
                &json!({ "depends_on": ["b"], "needs": { "../../up": { "from": "b", "select": "patch" } } }),
            )),
            "/items/0/needs",
        ),
        (
            "needs-output",
            text(plan(json!([
                { "id": "b", "executor": "dispatch", "inputs": { "subagent": "quick" }, "depends_on": [], "resourceLocks": [] },
                { "id": "a", "executor": "dispatch", "inputs": { "subagent": "quick" }, "depends_on": ["b"], "resourceLocks": [],
                  "needs": { "x": { "from": "b", "select": { "output": "../../../etc/shadow" } } } },
            ]))),
            "/items/1/needs",
        ),
        ("env-name", text(one(&json!({ "env": { "A=B\n": "x" } }))), "/items/0/env"),
        ("env-nul", text(one(&json!({ "env": { "A": "x\u{0}y" } }))), "/items/0/env"),
    ]
}

/// Whatever was in the plan, nothing that moves the cursor or forges lines reaches the terminal.
#[track_caller]
fn is_calm(name: &str, output: &Output) {
    let shown = format!("{}{}", output.text(), output.stderr);
    assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{name}: {shown:?}");
    assert!(shown.len() < 400_000, "{name}: {} bytes of messages", shown.len());
}

#[test]
fn clients_refuse_hostile_plans_with_a_reason() {
    let world = support::world();
    world.agent("quick", "true");
    for (name, bytes, said) in hostile() {
        let file = format!("{name}.json");
        world.write(&file, &bytes);
        for verb in ["validate", "submit"] {
            let output = world.run(&["orch", verb, &file]).code(1);
            is_calm(name, &output);
            assert!(output.stderr.contains(said), "{name}: {said:?} in {}", output.stderr);
        }
        let report = world.run(&["orch", "validate", &file, "--json"]).code(1).json();
        assert!(report["findings"].as_array().is_some_and(|all| !all.is_empty()), "{name}: {report}");
    }
    let waiting = fs::read_dir(world.path().join(".pangolin/inbox/waiting")).expect("inbox").count();
    assert_eq!(waiting, 0, "nothing was sent");
}

fn still_works(world: &World, daemon: Daemon, run: &str) {
    world.submit(run, &[("a", "quick", &[])]);
    assert_eq!(world.finish(run)["state"], "done");
    let _ = world.intact_bundle(run);
    let (status, _) = daemon.stop(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(status.code(), Some(0), "the daemon was unharmed");
}

/// Puts a file into the inbox the way another program would.
fn drop_in(world: &World, name: &str, bytes: &[u8]) {
    let path = world.write(&format!("drop/{name}"), bytes);
    fs::rename(path, world.path().join(".pangolin/inbox/waiting").join(name)).expect("inbox");
}

#[test]
fn the_daemon_sets_hostile_messages_aside_with_a_reason() {
    let world = support::world();
    world.agent("quick", "true");
    let daemon = world.serve();
    let inbox = world.path().join(".pangolin/inbox");
    let mut names = Vec::new();
    for (name, bytes, _) in hostile() {
        // Bare, as somebody who misunderstood would do it, and as a message.
        let bare = format!("bare-{name}");
        drop_in(&world, &bare, &bytes);
        names.push(bare);
        if let Ok(plan) = String::from_utf8(bytes) {
            let wrapped = format!("wrapped-{name}");
            let message = json!({ "v": 1, "kind": "submit", "actor": "somebody\u{1b}[2J\n", "plan": plan });
            drop_in(&world, &wrapped, message.to_string().as_bytes());
            names.push(wrapped);
        }
    }
    let cancels = [
        json!({ "v": 1, "kind": "cancel", "run": "../x", "actor": "a" }),
        json!({ "v": 1, "kind": "cancel", "run": "nobody", "actor": "a" }),
        json!({ "v": 1, "kind": "launch-missiles", "actor": "a" }),
        json!({ "v": 1, "kind": "submit", "actor": "x".repeat(1 << 20), "plan": one(&json!({})).to_string() }),
        json!({ "v": 1, "kind": "submit", "actor": "a\nb", "queue": "../q", "plan": one(&json!({})).to_string() }),
    ];
    for (index, message) in cancels.iter().enumerate() {
        let name = format!("odd-{index}");
        drop_in(&world, &name, message.to_string().as_bytes());
        names.push(name);
    }
    // No file at all: a link to somewhere, a fifo, a directory.
    std::os::unix::fs::symlink("/etc/shadow", inbox.join("waiting/link")).expect("link");
    nix::unistd::mkfifo(&inbox.join("waiting/fifo"), nix::sys::stat::Mode::S_IRWXU).expect("fifo");
    fs::create_dir(inbox.join("waiting/directory")).expect("directory");
    names.extend(["link", "fifo", "directory"].map(str::to_owned));
    for name in &names {
        let answer = inbox.join("answers").join(name);
        until(&format!("an answer to {name}"), || answer.exists().then_some(()));
        let text = fs::read_to_string(&answer).expect("answer");
        let reason = text.strip_prefix("rejected\n").unwrap_or_else(|| panic!("{name} was accepted: {text}"));
        let reason: Value = serde_json::from_str(reason).expect("reason");
        assert!(reason["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{name}: {reason}");
        assert!(text.len() < 1 << 20, "{name}: an answer of {} bytes", text.len());
    }
    // A name that is no id.
    fs::write(inbox.join("waiting/a name\nwith lines"), "{}").expect("inbox");
    until("the odd name is set aside", || {
        (fs::read_dir(inbox.join("waiting")).expect("inbox").count() == 0).then_some(())
    });
    assert_eq!(world.run(&["orch", "runs", "--json"]).ok().json()["runs"].as_array().map(Vec::len), Some(0));
    still_works(&world, daemon, "after-1");
}

#[test]
fn a_hundred_thousand_items_are_taken_and_cancelled() {
    let world = support::world();
    world.agent("quick", "true");
    world.agent("slow", "exec sleep 100000");
    let mut text = String::from(r#"{"id":"many","queue":"default","items":["#);
    text.push_str(r#"{"id":"first","executor":"dispatch","inputs":{"subagent":"slow"},"depends_on":[],"resourceLocks":[]}"#);
    for number in 1..100_000 {
        let _ = write!(
            text,
            r#",{{"id":"i{number}","executor":"dispatch","inputs":{{"subagent":"quick"}},"depends_on":["first"],"resourceLocks":[]}}"#
        );
    }
    text.push_str("]}");
    world.write("many.json", &text);
    let valid = world.run(&["orch", "validate", "many.json"]).ok();
    assert!(
        valid.text().starts_with("valid: 100,000 items") || valid.text().starts_with("valid: 100000 items"),
        "{}",
        valid.text()
    );
    // The same with a cycle through all of them is refused, in bounded words.
    world.write("cycle.json", text.replacen(r#""depends_on":[]"#, r#""depends_on":["i99999"]"#, 1));
    let cycle = world.run(&["orch", "validate", "cycle.json"]).code(1);
    is_calm("cycle", &cycle);
    assert!(cycle.stderr.contains("cycle"), "{:.2000}", cycle.stderr);

    let daemon = world.serve();
    world.run(&["orch", "submit", "many.json", "--wait", "100"]).ok().says(&["admitted"]);
    world.run(&["orch", "cancel", "many"]).ok();
    let end = until("the run ends", || {
        let runs = world.run(&["orch", "runs", "--json"]).ok().json();
        runs["runs"].as_array()?.iter().find(|run| run["run"] == "many" && run["state"] != "active").cloned()
    });
    assert_eq!(end["state"], "cancelled", "{end}");
    still_works(&world, daemon, "after-2");
}

#[test]
fn hostile_registrations_are_refused() {
    let world = support::world();
    let capability = world.path().join("capability");
    fs::create_dir(&capability).expect("directory");
    fs::write(capability.join("fine.txt"), "fine").expect("file");
    std::os::unix::fs::symlink("/etc/shadow", capability.join("shadow")).expect("link");
    let register =
        |name: &str| world.run(&["capabilities", "register", "--name", name, "--from", "capability"]);
    let _ = register("links").code(2).says(&["shadow"]);
    fs::remove_file(capability.join("shadow")).expect("link");
    nix::unistd::mkfifo(&capability.join("pipe"), nix::sys::stat::Mode::S_IRWXU).expect("fifo");
    let _ = register("pipes").code(2).says(&["pipe"]);
    fs::remove_file(capability.join("pipe")).expect("fifo");
    for name in ["../up", "a/b", "", "a\u{1b}[2Jb", "x\ny"] {
        let refused = register(name);
        assert_eq!(refused.code, Some(2), "{name:?}: {}", refused.stderr);
        is_calm(name, &refused);
    }
    for odd in [".git/hooks/post-checkout", ".git/config"] {
        let path = capability.join(odd);
        fs::create_dir_all(path.parent().expect("parent")).expect("directory");
        fs::write(&path, "#!/bin/sh\n").expect("file");
        let refused = register("reserved");
        assert_ne!(refused.code, Some(0), "{odd}: {}", refused.text());
        fs::remove_dir_all(capability.join(odd.split('/').next().expect("first"))).expect("directory");
    }
    let _ = register("fine").ok();
    for pipeline in
        ["{", "[]", r#"{"id":"../p","blocks":[]}"#, r#"{"id":"p","blocks":[{"kind":"root-shell"}]}"#]
    {
        world.write("pipeline.json", pipeline);
        let refused = world.run(&["pipeline", "validate", "pipeline.json"]);
        assert!(matches!(refused.code, Some(1 | 2)), "{pipeline}: {:?} {}", refused.code, refused.text());
    }
}
