//! Agents that attack the host, the evidence and the reviewer.

use std::{fs, io::ErrorKind, net::TcpListener, path::Path};

use pangolin_e2e::world::{World, item};
use serde_json::json;

use crate::support::{self, blob, until_nothing_runs};

/// Reports every success as a line that starts with `GOT`.
const ATTACK: &str = r#"mkdir -p outputs
r=outputs/report.txt
try() { if "$@" >/dev/null 2>&1; then echo "GOT $*" >> $r; else echo "refused $*" >> $r; fi; }
state=@STATE@
for f in $state/keys/deployment.key $state/ledger.db $state/secrets/x ../key ../envelope/envelope.json \
  ../envelope/secrets.json ../result/events.jsonl ../../../ledger.db ../../../keys/deployment.key \
  @WORLD@/canary.txt @WORLD@/repo/README.md @WORLD@/pangolin.toml /etc/shadow; do try grep -q . "$f"; done
try ls $state/keys
try ls ../result
try sh -c 'echo forged > ../result/result.json'
# These land in the private /tmp around the workspace, if the deployment is below /tmp.
sh -c 'mkdir -p ../result && echo forged > ../result/result.json'
sh -c 'echo planted > @WORLD@/planted.txt'
try sh -c 'echo planted > $HOME/../planted.txt'
try sh -c 'echo planted > /etc/planted'
try sh -c 'echo planted > /usr/planted'
try bash -c 'exec 3<>/dev/tcp/127.0.0.1/@PORT@'
try kill -0 @PID@
try grep -al 'o[r]ch.serve' /proc/[0-9]*/cmdline
try mount -t tmpfs none /mnt
try unshare -Ur true
ln -s /etc/shadow outputs/shadow
ln -s ../../../../ledger.db outputs/ledger
ln -s ../../ outputs/up
ln -s /etc/shadow shadow-link
ln -s ../../ up-link
printf x > "outputs/$(printf 'new\nline')"
printf x > "outputs/$(printf 'n\377')"
printf 'x\n' > "$(printf 'new\nline\033[2J')"
printf 'x\n' > "$(printf 'n\377')"
mkfifo outputs/pipe pipe
truncate -s 200M outputs/huge
truncate -s 1100M huge.bin
printf '#!/bin/sh\n' > .gitattributes
mkdir -p .git/hooks && printf 'x' > .git/hooks/post-checkout
echo good > good.txt
(setsid sleep 100000 > /dev/null 2>&1 &)
sh -c 'for i in $(seq 400); do (sleep 100000 &) ; done' > /dev/null 2>&1
exit 0
"#;

fn limited(world: &World) {
    let config = fs::read_to_string(world.path().join("pangolin.toml")).expect("config");
    let config = config.replace("isolation = \"sandbox\"\n", "isolation = \"sandbox\"\npids = 64\n");
    world.write("pangolin.toml", config);
}

/// Files below the state directory that contain the bytes, except the one they belong in.
fn holders(dir: &Path, needle: &[u8], found: &mut Vec<String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            holders(&path, needle, found);
        } else if kind.is_file() {
            let bytes = fs::read(&path).unwrap_or_default();
            if bytes.windows(needle.len()).any(|window| window == needle) {
                found.push(path.display().to_string());
            }
        }
    }
}

#[test]
fn an_attacking_agent_harms_nobody_and_the_evidence_says_what_happened() {
    let world = support::world();
    limited(&world);
    let listener = TcpListener::bind("127.0.0.1:0").expect("listener");
    listener.set_nonblocking(true).expect("nonblocking");
    world.write("canary.txt", "canary-7c1e0f53\n");
    let state = world.path().join(".pangolin");
    let daemon = world.serve();
    let script = ATTACK
        .replace("@STATE@", &state.display().to_string())
        .replace("@WORLD@", &world.path().display().to_string())
        .replace("@PORT@", &listener.local_addr().expect("address").port().to_string())
        .replace("@PID@", &std::process::id().to_string());
    world.agent("attack", &script);
    world.submit("attack-1", &[("a", "attack", &[])]);
    let run = world.finish("attack-1");
    let a = item(&run, "a");
    assert_eq!(run["state"], "done", "{run:#}");
    until_nothing_runs(&world);

    let attempt = &a["attempts"][0];
    let outputs = attempt["outputs"].as_object().expect("outputs");
    let report = blob(&world, outputs["report.txt"].as_str().expect("report"));
    let report = fs::read_to_string(report).expect("report");
    assert!(!report.contains("GOT"), "{report}");
    assert!(report.lines().count() >= 22, "every attack was tried: {report}");
    assert_eq!(listener.accept().expect_err("nobody came").kind(), ErrorKind::WouldBlock);
    for planted in ["planted.txt", ".pangolin/planted.txt"] {
        assert!(!world.path().join(planted).exists(), "{planted}");
    }
    assert!(!Path::new("/etc/planted").exists() && !Path::new("/usr/planted").exists());

    // What was left out is named, what is a link stayed a link.
    let mut names: Vec<&str> = outputs.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["new\nline", "report.txt"], "{attempt:#}");
    let result =
        fs::read_to_string(blob(&world, attempt["result"].as_str().expect("result"))).expect("result");
    for part in [
        "outputs/shadow",
        "outputs/ledger",
        "outputs/up",
        "outputs/pipe",
        "outputs/huge",
        "outputs/n%FF",
        "huge.bin",
        "pipe: is a fifo",
    ] {
        assert!(result.contains(part), "{part} in {result}");
    }
    let events = world.run(&["orch", "logs", "attack-1/a", "--events"]).ok().text();
    assert!(events.contains("escape.failed"), "{events}");

    // Nothing of the host got into the store.
    let mut found = Vec::new();
    holders(&state, b"canary-7c1e0f53", &mut found);
    assert_eq!(found, Vec::<String>::new());
    let key = fs::read(state.join("keys/deployment.key")).expect("key");
    let secret = key.trim_ascii();
    holders(&state.join("blobs"), &secret[secret.len() - 20..], &mut found);
    assert_eq!(found, Vec::<String>::new());

    // The reviewer's terminal is left alone.
    for arguments in
        [&["orch", "status", "attack-1"][..], &["patch", "list", "attack-1"], &["orch", "logs", "attack-1/a"]]
    {
        let output = world.run(arguments).ok();
        let shown = format!("{}{}", output.text(), output.stderr);
        assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{shown:?}");
    }
    let patch = world.run(&["patch", "show", "attack-1/a"]).ok().text();
    assert!(patch.contains("+/etc/shadow") && patch.contains("+good"), "links are text in a patch: {patch}");
    assert!(!patch.contains("post-checkout") && !patch.contains("root:"), "{patch}");
    let applied = world.run(&["patch", "apply", "attack-1/a", "--repo", "repo", "--json"]).ok().json();
    assert_eq!(applied["applied"][0]["treeMatches"], true, "{applied}");
    let link = world.path().join("repo/shadow-link");
    assert_eq!(fs::read_link(link).expect("a link"), Path::new("/etc/shadow"));
    assert!(!world.path().join("repo/.git/hooks/post-checkout").exists());
    let _ = world.intact_bundle("attack-1");
    let (status, _) = daemon.stop(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(status.code(), Some(0));
}

#[test]
fn a_result_that_the_agent_writes_is_never_believed() {
    let world = support::world();
    // Without a sandbox the agent can reach the result directory, and keeps writing while the worker ends.
    let forged = json!({ "v": 1, "result": { "ending": { "kind": "finished" } }, "hmac": "00" }).to_string();
    let script = format!(
        "mkdir -p outputs; (setsid sh -c 'while :; do echo \"$0\" > ../result/result.json; done' '{forged}' >/dev/null 2>&1 &); echo work > work.txt; until grep -q ending ../result/result.json; do :; done; exit 7"
    );
    world.agent("forger", &script);
    let _daemon = world.serve();
    let plan =
        world.plan("forge-1", &[("a", "forger", &[])], &json!({ "executor": "open", "maxAttempts": 1 }));
    world.run(&["orch", "submit", &plan]).ok();
    let run = world.finish("forge-1");
    assert_eq!(run["state"], "failed", "{run:#}");
    let failure = &item(&run, "a")["attempts"][0]["failure"];
    assert!(
        matches!(failure["reason"].as_str(), Some("integrity-failed" | "provider-failed" | "worker-failed")),
        "{failure}"
    );
    until_nothing_runs(&world);
    let _ = world.intact_bundle("forge-1");
}

#[test]
fn what_the_agent_changes_after_the_worker_looked_is_not_stored_as_evidence() {
    let world = support::world();
    // Keeps rewriting the captured file in the result directory.
    let script = "(setsid sh -c 'while :; do for f in ../result/capture/after/*; do echo evil > \"$f\"; done; done' >/dev/null 2>&1 &); echo honest > work.txt; exit 0";
    world.agent("swapper", script);
    let _daemon = world.serve();
    let plan =
        world.plan("swap-1", &[("a", "swapper", &[])], &json!({ "executor": "open", "maxAttempts": 1 }));
    world.run(&["orch", "submit", &plan]).ok();
    let run = world.finish("swap-1");
    let attempt = &item(&run, "a")["attempts"][0];
    match attempt["patch"].as_str() {
        Some(digest) => {
            let patch = fs::read_to_string(blob(&world, digest)).expect("patch");
            assert!(patch.contains("+honest") && !patch.contains("evil"), "{patch}");
        }
        None => assert_eq!(attempt["failure"]["reason"], "integrity-failed", "{run:#}"),
    }
    let _ = world.intact_bundle("swap-1");
}
