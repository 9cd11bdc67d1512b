//! `cargo xtask demo` as a program, against a scripted cargo and a scripted `pangolin`: which commands it runs in which
//! order, what it prints last, and that it fails and cleans up when something goes wrong. The real ones are run by
//! `cargo xtask demo` itself.

#![expect(clippy::unwrap_used, reason = "test helpers")]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

/// Prints a target directory and "builds" by copying the scripted binaries there.
const CARGO: &str = r#"#!/bin/sh
set -eu
case $1 in
    metadata) printf '{"target_directory":"%s/target"}\n' "$FAKE" ;;
    build)
        mkdir -p "$FAKE/target/debug" "$FAKE/target/x86_64-unknown-linux-musl/debug"
        cp "$FAKE/pangolin" "$FAKE/target/debug/pangolin"
        : >"$FAKE/target/x86_64-unknown-linux-musl/debug/pangolin-worker"
        ;;
    *) exit 9 ;;
esac
"#;

const PANGOLIN: &str = r#"#!/bin/sh
set -eu
echo "$*" >>"$FAKE/calls"
[ -n "$PANGOLIN_WORKER" ] && [ -f pangolin.toml ] && [ -d repo/.git ]
case "$1 ${2:-}" in
    "orch serve")
        [ "$FAKE_MODE" != daemon-dies ] || { echo "cannot open the ledger"; exit 1; }
        trap 'rm -f "$FAKE/serving"; exit 0' TERM
        : >"$FAKE/serving"
        echo "serving (pid $$)"
        while :; do sleep 0.05; done
        ;;
    "orch submit")
        while [ ! -e "$FAKE/serving" ]; do sleep 0.05; done
        echo fanout-1
        ;;
    "orch watch")
        [ "$FAKE_MODE" = hangs ] || exit 0
        while [ -e "$FAKE/serving" ]; do sleep 0.05; done
        ;;
    "patch show")
        [ "$FAKE_MODE" != item-failed ] || exit 5
        echo "diff of $3"
        ;;
    "orch audit")
        echo '{}' >"$5"
        ;;
    "verify --replay")
        verdict=agrees
        [ "$FAKE_MODE" != replay-differs ] || verdict=differs
        printf '{"replay":{"verdict":"%s","steps":1,"agreed":1}}\n' "$verdict"
        [ "$verdict" = agrees ] || exit 6
        ;;
    "verify bundle.json")
        intact=true
        [ "$FAKE_MODE" != not-intact ] || intact=false
        outcome=done
        [ "$FAKE_MODE" != item-failed ] || outcome=failed
        printf '{"intact":%s,"claim":"tamper-detecting","anchorId":"local","guarantee":"detect","outcome":"%s"}\n' \
            "$intact" "$outcome"
        [ "$intact" = true ]
        ;;
esac
"#;

struct Fake {
    dir: PathBuf,
    mode: &'static str,
}

impl Fake {
    fn new(mode: &'static str) -> Self {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("demo").join(mode);
        fs::remove_dir_all(&dir).ok();
        fs::create_dir_all(&dir).unwrap();
        for (name, text) in [("cargo", CARGO), ("pangolin", PANGOLIN)] {
            fs::write(dir.join(name), text).unwrap();
            fs::set_permissions(dir.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        Self { dir, mode }
    }

    fn xtask(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command
            .args(args)
            .env("CARGO", self.dir.join("cargo"))
            .env("FAKE", &self.dir)
            .env("FAKE_MODE", self.mode);
        command
    }

    fn demo(&self) -> Output {
        self.xtask(&["demo"]).output().unwrap()
    }

    fn scratch(&self) -> PathBuf {
        self.dir.join("target/demo/offload-fanout")
    }

    fn daemon_is_gone(&self) -> bool {
        let pid = fs::read_to_string(self.scratch().join("logs/orch-serve.pid")).unwrap();
        fs::read_to_string(format!("/proc/{}/stat", pid.trim())).map_or(true, |stat| stat.contains(") Z "))
    }
}

fn wait_until(what: &str, mut ready: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !ready() {
        assert!(Instant::now() < deadline, "{what}: not within 30 s");
        std::thread::yield_now();
    }
}

#[test]
fn runs_the_tutorial_and_ends_with_the_audit_block() {
    let fake = Fake::new("ok");
    // Twice: the second run must start afresh.
    for _ in 0..2 {
        fs::remove_file(fake.dir.join("calls")).ok();
        fs::remove_file(fake.dir.join("serving")).ok();
        let output = fake.demo();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(fake.daemon_is_gone());

        let calls: Vec<String> =
            fs::read_to_string(fake.dir.join("calls")).unwrap().lines().map(str::to_owned).collect();
        assert_eq!(
            calls,
            [
                "init",
                "capabilities register --name scripted-agent --from capabilities/scripted-agent",
                "capabilities register --name verify-tools --from capabilities/verify-tools",
                "pipeline register pipelines/checked-edit.json",
                "subagent register --name code-edit --from subagents/code-edit.toml",
                "subagent register --name verify --from subagents/verify.toml",
                "orch serve",
                "orch submit plan.json",
                "orch watch fanout-1",
                "patch show fanout-1/edit-alpha",
                "patch show fanout-1/edit-beta",
                "patch show fanout-1/edit-shared",
                "orch audit fanout-1 --out bundle.json",
                "verify bundle.json --json",
                "verify --replay bundle.json --json",
            ]
        );
        let stdout = String::from_utf8(output.stdout).unwrap();
        let (before, after) = stdout.split_once("=== Audit bundle ===\n").unwrap();
        assert!(before.contains("diff of fanout-1/edit-beta"), "{stdout}");
        assert!(
            after.starts_with("intact: true\nclaim: tamper-detecting\nanchorId: local\nguarantee: detect\nreplay: agrees (1 of 1 steps)\n"),
            "{stdout}"
        );
        let patch = fs::read_to_string(fake.scratch().join("patches/edit-shared.patch")).unwrap();
        assert_eq!(patch, "diff of fanout-1/edit-shared\n");
        assert!(after.contains(fake.scratch().join("bundle.json").to_str().unwrap()), "{stdout}");
    }
}

#[test]
fn the_commit_is_the_same_whatever_the_git_configuration_says() {
    let fake = Fake::new("git");
    let config = fake.dir.join("gitconfig");
    fs::write(&config, "[user]\nname = Somebody\nemail = x@example.invalid\n[core]\nautocrlf = true\n")
        .unwrap();
    let head = || {
        let output =
            Command::new("git").args(["rev-parse", "HEAD"]).current_dir(fake.scratch().join("repo")).output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    assert!(fake.demo().status.success());
    let first = head();
    let output = fake
        .xtask(&["demo"])
        .env("GIT_CONFIG_GLOBAL", &config)
        .env("GIT_AUTHOR_NAME", "Else")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(first.trim().len(), 40);
    assert_eq!(head(), first);
}

#[test]
fn every_kind_of_failure_is_a_failure_of_the_demo() {
    for (mode, expected) in [
        ("item-failed", "the run ended as \"failed\""),
        ("not-intact", "verify bundle.json --json` failed"),
        ("replay-differs", "verify --replay bundle.json --json` failed"),
        ("daemon-dies", "cannot open the ledger"),
    ] {
        let fake = Fake::new(mode);
        let output = fake.demo();
        assert_eq!(output.status.code(), Some(1), "{mode}");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(stderr.contains(expected), "{mode}: {stderr}");
        assert!(fake.daemon_is_gone(), "{mode}");
    }
}

#[test]
fn the_daemon_ends_even_when_the_demo_is_killed() {
    let fake = Fake::new("hangs");
    let mut xtask = fake.xtask(&["demo"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_until("the demo watches", || {
        fs::read_to_string(fake.dir.join("calls")).is_ok_and(|calls| calls.contains("orch watch"))
    });
    assert!(!fake.daemon_is_gone());
    xtask.kill().unwrap();
    xtask.wait().unwrap();
    wait_until("the daemon is gone", || fake.daemon_is_gone());
}

#[test]
fn unknown_names_are_answered_with_those_that_exist() {
    let fake = Fake::new("unknown");
    let output = fake.xtask(&["example", "nope"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("examples: ") && stderr.contains("offload-fanout"), "{stderr}");
    assert_eq!(fake.xtask(&["frobnicate"]).output().unwrap().status.code(), Some(1));
}

#[test]
fn the_docker_demo_builds_its_image_and_uses_the_container_configuration() {
    let answers = Command::new("docker")
        .args(["version", "--format", "{{.Server.Version}}"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    let fake = Fake::new("docker");
    let output = fake.xtask(&["demo", "--docker"]).env_remove("PANGOLIN_DEMO_IMAGE").output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    if !answers {
        eprintln!("SKIPPED: no Docker engine; checked only that the demo says so");
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr.contains("ocker"), "{stderr}");
        return;
    }
    assert!(output.status.success(), "{stderr}");
    let config =
        fs::read_to_string(fake.dir.join("target/demo/offload-fanout-docker/pangolin.toml")).unwrap();
    assert!(
        config.contains("backend = \"docker\"") && config.contains("image = \"pangolin-demo:local\""),
        "{config}"
    );

    let missing =
        fake.xtask(&["demo", "--docker"]).env("PANGOLIN_DEMO_IMAGE", "pangolin-none:none").output().unwrap();
    assert_eq!(missing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("docker pull pangolin-none:none"));
}
