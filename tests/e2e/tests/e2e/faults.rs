//! What must not stop a deployment: hostile messages, crashes, a second daemon.

use nix::sys::signal::Signal;
use pangolin_e2e::world::{World, item};
use serde_json::json;

#[test]
fn a_malformed_submission_stops_nobody() {
    let world = World::new();
    world.agent("quick", "true");
    let _daemon = world.serve();
    // Past the client's own checks: somebody else puts files into the inbox.
    let inbox = world.path().join(".pangolin/inbox");
    let hostile: [(&str, &[u8]); 4] = [
        ("broken", b"{ not json"),
        ("binary", b"\x00\xff\xfe"),
        ("future", b"{\"v\":99,\"kind\":\"submit\"}"),
        ("lying", b"{\"v\":1,\"kind\":\"submit\",\"actor\":\"x\",\"plan\":\"{\\\"id\\\":\\\"../up\\\"}\"}"),
    ];
    for (name, bytes) in hostile {
        std::fs::write(world.path().join(name), bytes).expect("file");
        std::fs::rename(world.path().join(name), inbox.join("waiting").join(name)).expect("inbox");
    }
    world.write("bad.json", json!({ "id": "bad", "queue": "nowhere", "items": [] }).to_string());
    let bad = world.run(&["orch", "submit", "bad.json"]).code(1);
    assert_eq!(bad.text(), "");
    let _ = bad.says(&["/queue", "/items", "bad.json cannot be run"]);
    let report = world.run(&["orch", "validate", "bad.json", "--json"]).code(1).json();
    assert_eq!(report["valid"], false);
    assert!(report["findings"].as_array().is_some_and(|findings| findings.len() >= 2), "{report}");

    world.submit("good", &[("a", "quick", &[])]);
    assert_eq!(world.finish("good")["state"], "done");
    for (name, _) in hostile {
        assert!(inbox.join("rejected").join(name).exists(), "{name} is set aside");
        let answer = std::fs::read_to_string(inbox.join("answers").join(name)).expect("answer");
        assert!(answer.starts_with("rejected\n") && answer.contains("reason"), "{name}: {answer}");
    }
}

#[test]
fn a_daemon_killed_hard_is_replaced_without_a_second_start() {
    let world = World::new();
    world.agent("slow", "echo one >> count.txt; sleep 2");
    let daemon = world.serve();
    world.submit("crash-1", &[("a", "slow", &[]), ("b", "slow", &["a"])]);
    world.watch("crash-1").until_item("a", "running");
    let (status, _) = daemon.stop(Signal::SIGKILL);
    assert_eq!(status.code(), None);
    let _daemon = world.serve();
    let run = world.finish("crash-1");
    assert_eq!(run["state"], "done", "{run:#}");
    for id in ["a", "b"] {
        assert_eq!(item(&run, id)["attempts"].as_array().map(Vec::len), Some(1), "{run:#}");
    }
    let patch = world.run(&["patch", "show", "crash-1/a"]).ok().text();
    assert_eq!(patch.matches("\n+one").count(), 1, "{patch}");
    let _ = world.intact_bundle("crash-1");
}

#[test]
fn a_daemon_that_ends_cleanly_leaves_its_worker_to_the_next() {
    let world = World::new();
    world.agent("slow", "sleep 2; echo done > done.txt");
    let daemon = world.serve();
    world.submit("hand-1", &[("a", "slow", &[])]);
    world.watch("hand-1").until_item("a", "running");
    let (status, _) = daemon.stop(Signal::SIGINT);
    assert_eq!(status.code(), Some(0), "Ctrl-C is how the daemon is stopped");
    let _daemon = world.serve();
    let run = world.finish("hand-1");
    assert_eq!(
        (run["state"].as_str(), item(&run, "a")["attempts"].as_array().map(Vec::len)),
        (Some("done"), Some(1))
    );
    let _ = world.intact_bundle("hand-1");
}

#[test]
fn two_daemons_share_one_deployment() {
    let world = World::new();
    world.agent("count", "echo one > one.txt");
    let first = world.serve();
    let mut second = world.stand_by();
    let names: Vec<String> = (0..6).map(|n| format!("i{n}")).collect();
    let items: Vec<(&str, &str, &[&str])> =
        names.iter().map(|name| (name.as_str(), "count", &[][..])).collect();
    world.submit("pair-1", &items);
    let mut watch = world.watch("pair-1");
    watch.until("the first item", |line| line["item"]["status"] == "done");
    let (status, _) = first.stop(Signal::SIGKILL);
    assert_eq!(status.code(), None);
    second.until("serving (pid");
    let (_, lines) = watch.until_terminal();
    assert_eq!(lines.last().expect("line")["state"], "done");
    let run = world.status("pair-1");
    for name in &names {
        assert_eq!(item(&run, name)["attempts"].as_array().map(Vec::len), Some(1), "{run:#}");
    }
    let _ = world.intact_bundle("pair-1");
}

#[test]
fn an_attempt_that_takes_too_long_is_killed() {
    let world = World::new();
    world.agent("forever", "sleep 100000 & sleep 100000");
    let plan =
        world.plan("late-1", &[("a", "forever", &[])], &json!({ "timeoutSeconds": 1, "maxAttempts": 1 }));
    let _daemon = world.serve();
    world.run(&["orch", "submit", &plan]).ok();
    let run = world.finish("late-1");
    let attempt = &item(&run, "a")["attempts"][0];
    assert_eq!(
        (run["state"].as_str(), attempt["failure"]["reason"].as_str()),
        (Some("failed"), Some("timeout")),
        "{run:#}"
    );
    let _ = world.intact_bundle("late-1");
}
