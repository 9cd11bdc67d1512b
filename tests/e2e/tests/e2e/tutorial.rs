//! The brief's tutorial by hand, with the example's files.

use nix::sys::signal::Signal;
use pangolin_e2e::world::{World, item};

const EDITS: [&str; 3] = ["edit-alpha", "edit-beta", "edit-shared"];

/// init, register, serve, submit, watch, status, patches, logs, audit, verify, stop.
#[test]
fn from_plan_to_verified_bundle() {
    let world = World::example("offload-fanout");
    let init = world.run(&["init"]).ok();
    let vkey = init
        .stderr
        .lines()
        .find_map(|line| line.strip_prefix("public key: "))
        .expect("public key")
        .to_owned();
    assert!(world.path().join(".pangolin").is_dir(), "{}", init.text());
    world.run(&["doctor"]).ok();

    for name in ["scripted-agent", "verify-tools"] {
        let from = format!("capabilities/{name}");
        let pinned = world.run(&["capabilities", "register", "--name", name, "--from", &from]).ok().text();
        assert!(
            pinned.starts_with(&format!("pangolin://offload-fanout/capability/{name}/sha256:")),
            "{pinned}"
        );
    }
    for name in ["code-edit", "verify"] {
        let from = format!("subagents/{name}.toml");
        world.run(&["subagent", "register", "--name", name, "--from", &from]).ok();
    }
    assert!(world.run(&["orch", "validate", "plan.json"]).ok().text().starts_with("valid: 4 items"));

    let daemon = world.serve();
    let submitted = world.run(&["orch", "submit", "plan.json", "--actor", "human:ada"]).ok();
    assert_eq!(submitted.text(), "fanout-1\n", "stdout is the run id and nothing else");
    let submitted = submitted.says(&["admitted: leaf 0 of log ", "checkpoint size 1, root "]);
    drop(submitted);

    let (code, lines) = world.watch("fanout-1").until_terminal();
    assert_eq!(code, Some(0));
    assert!(lines.iter().all(|line| line["schemaVersion"] == 1 && line["run"] == "fanout-1"), "{lines:#?}");
    assert_eq!(lines.last().expect("lines")["state"], "done", "{:#?}", world.status("fanout-1"));

    let run = world.status("fanout-1");
    assert_eq!(run["actor"], "human:ada");
    assert_eq!(run["counts"]["done"], 4);
    for id in EDITS {
        let edit = item(&run, id);
        assert!(edit["resultRef"].as_str().is_some_and(|text| text.starts_with("sha256:")), "{edit}");
        assert_eq!(edit["verify"]["passed"], true, "{edit}");
        let attempt = &edit["attempts"][0];
        assert_eq!(attempt["isolation"]["level"], "sandbox", "{attempt}");
    }
    let last_edit =
        EDITS.iter().map(|id| item(&run, id)["attempts"][0]["endedAt"].as_i64().expect("end")).max();
    assert!(
        item(&run, "verify")["attempts"][0]["firedAt"].as_i64() >= last_edit,
        "verify waits for all edits"
    );
    at_most_two_at_once(&run);

    let text = world.run(&["orch", "status", "fanout-1"]).ok().text();
    assert!(text.contains("fanout-1  done") && text.contains("✓ edit-alpha"), "{text}");
    assert!(world.run(&["orch", "runs"]).ok().text().contains("fanout-1  done"));
    assert!(
        world.run(&["orch", "logs", "fanout-1/edit-alpha"]).ok().text().contains("implemented the function")
    );
    let events = world.run(&["orch", "logs", "fanout-1/edit-alpha", "--events"]).ok().text();
    assert!(events.lines().any(|line| line.contains("\"kind\":\"dispatch.started\"")), "{events}");

    patches_are_exact_and_apply(&world);
    bundle_verifies_offline(&world, &vkey);

    let (status, stdout) = daemon.stop(Signal::SIGTERM);
    assert_eq!((status.code(), stdout.as_str()), (Some(0), ""));
}

fn at_most_two_at_once(run: &serde_json::Value) {
    let mut changes: Vec<(i64, i32)> = Vec::new();
    for id in EDITS {
        let attempt = &item(run, id)["attempts"][0];
        changes.push((attempt["firedAt"].as_i64().expect("start"), 1));
        changes.push((attempt["endedAt"].as_i64().expect("end"), -1));
    }
    // At the same millisecond an end comes before a start.
    changes.sort_unstable();
    let (mut now, mut most) = (0, 0);
    for (_, change) in changes {
        now += change;
        most = most.max(now);
    }
    assert_eq!(most, 2, "queue concurrency is 2");
}

fn patches_are_exact_and_apply(world: &World) {
    let list = world.run(&["patch", "list", "fanout-1", "--json"]).ok().json();
    for id in EDITS {
        let target = format!("fanout-1/{id}");
        let shown = world.run(&["patch", "show", &target]).ok();
        let known = list["patches"]
            .as_array()
            .expect("patches")
            .iter()
            .find(|patch| patch["item"] == id)
            .expect("patch");
        assert_eq!(
            known["bytes"].as_u64(),
            Some(shown.stdout.len() as u64),
            "stdout holds exactly the patch"
        );
        assert_eq!(known["files"].as_array().map(Vec::len), Some(1), "one file per edit: {known}");
        assert!(shown.stdout.starts_with(b"diff --git a/fixture/"), "{}", shown.text());
        assert!(shown.stderr.contains("fixture/"), "the summary is on stderr");
        world.run(&["patch", "apply", &target, "--repo", "repo", "--check"]).ok();
    }
    assert_eq!(world.git(&["status", "--porcelain"]), "", "--check changes nothing");
    let all = world.run(&["patch", "apply", "fanout-1", "--repo", "repo", "--check", "--json"]).ok().json();
    let contained =
        all["applied"].as_array().expect("reports").iter().map(|report| report["contained"] == true);
    assert_eq!(
        contained.collect::<Vec<_>>(),
        [false, false, false, true],
        "the gate delivers the sum of the edits"
    );
    assert!(
        all["applied"].as_array().is_some_and(|all| all.iter().all(|report| report["treeMatches"] == true)),
        "{all}"
    );
    for id in EDITS {
        world.run(&["patch", "apply", &format!("fanout-1/{id}"), "--repo", "repo"]).ok();
        let dirty = world.run(&["patch", "apply", &format!("fanout-1/{id}"), "--repo", "repo"]).code(1);
        let _ = dirty.says(&["uncommitted changes"]);
        world.git(&[
            "-c",
            "user.name=e2e",
            "-c",
            "user.email=e2e@localhost",
            "commit",
            "--quiet",
            "--message",
            id,
        ]);
    }
    let check =
        std::process::Command::new("sh").arg("check.sh").current_dir(world.path().join("repo")).output();
    assert!(check.expect("check").status.success(), "the project is green after the three edits");
}

fn bundle_verifies_offline(world: &World, vkey: &str) {
    let audit = world.run(&["orch", "audit", "fanout-1", "--out", "bundle.json"]).ok();
    assert!(audit.text().contains("intact: true"), "{}", audit.text());
    let elsewhere = tempfile_outside(world);
    let verify = |more: &[&str]| {
        let mut arguments = vec!["verify", "bundle.json"];
        arguments.extend(more);
        let mut command = world.command(&arguments);
        let output = command.current_dir(&elsewhere).output().expect("verify");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (code, text) = verify(&[]);
    assert_eq!(code, Some(0), "{text}");
    let block =
        "=== Audit bundle ===\nintact: true\nclaim: tamper-detecting\nanchorId: local\nguarantee: detect\n";
    assert!(text.ends_with(block), "{text}");
    let (code, text) = verify(&["--key", vkey, "--json"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("\"pinned\": true"), "{text}");
    let (_, full) = verify(&["--full"]);
    assert!(full.matches("item.fired").count() >= 4, "{full}");

    let good = std::fs::read(world.path().join("bundle.json")).expect("bundle");
    let step = (good.len() / 60).max(1);
    for position in (0..good.len()).step_by(step) {
        let mut bad = good.clone();
        bad[position] ^= 1;
        std::fs::write(elsewhere.join("bundle.json"), &bad).expect("write");
        let (code, text) = verify(&["--json"]);
        let report: serde_json::Value = serde_json::from_str(&text).expect("report");
        assert_eq!(code, Some(1), "byte {position} flipped: {text}");
        assert!(report["failure"]["place"].as_str().is_some_and(|place| !place.is_empty()), "{report}");
    }
    std::fs::write(elsewhere.join("bundle.json"), &good[..good.len() - 1]).expect("write");
    assert_eq!(verify(&[]).0, Some(1), "cut short");
}

/// A directory without a configuration above it, with the bundle in it.
fn tempfile_outside(world: &World) -> std::path::PathBuf {
    let dir = world.path().with_extension("auditor");
    std::fs::create_dir_all(&dir).expect("directory");
    std::fs::copy(world.path().join("bundle.json"), dir.join("bundle.json")).expect("copy");
    dir
}
