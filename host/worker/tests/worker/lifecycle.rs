//! Endings: finished, needs input, failures, stop, time limit, broken start.

use std::{fs, os::unix::process::ExitStatusExt, process::Command};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use pangolin_core::{entry::FailureReason, ids::Digest};
use pangolin_envelope::{
    envelope::{ContextRequirement, VerifySpec},
    pipeline::PipelineSpec,
    result::Ending,
};

use crate::harness::{Stage, eventually, runs};

#[test]
fn a_good_dispatch_tells_its_story_in_order() {
    let mut stage = Stage::new("cat; echo done > a.txt; echo warn >&2");
    stage.envelope.agent.as_mut().unwrap().stdin = "prompt\n".to_owned();
    stage.envelope.agent.as_mut().unwrap().files.insert(".cfg/agent.json".to_owned(), "{}".to_owned());
    let verify = VerifySpec { command: "echo checking; exit 4".to_owned(), timeout: 30 };
    stage.envelope.pipeline = PipelineSpec::default_for(Some(&verify));
    stage.envelope.verify = Some(verify);
    let ran = stage.run();
    assert_eq!(ran.code, 0);
    assert_eq!(ran.result.ending, Ending::Finished {});
    let kinds: Vec<_> = ran.events.iter().map(|event| event["kind"].as_str().unwrap()).collect();
    let expected =
        ["worker.boot", "dispatch.started", "runtime.adapter.ran", "verify.ran", "dispatch.finished"];
    assert_eq!(kinds, expected);
    assert_eq!(ran.agent_stdout(), "prompt\n");
    // Report-only: red, and still finished.
    assert!(!ran.result.verify.as_ref().unwrap().passed);
    assert_eq!(ran.result.verify_report.as_deref(), Some("checking\n"));
    let blocks: Vec<_> = ran.result.blocks.iter().map(|block| (block.kind.as_str(), block.ok)).collect();
    assert_eq!(blocks, [("agent", true), ("capture", true), ("script", false), ("capture", true)]);
    let agent = ran.result.agent.as_ref().unwrap();
    assert_eq!(agent.stdout, Digest::of(b"prompt\n"));
    assert_eq!(fs::read(stage.result_dir().join("agent.stderr")).unwrap(), b"warn\n");
    assert_eq!(ran.changes().keys().copied().collect::<Vec<_>>(), ["a.txt"]);
}

#[test]
fn a_failing_agent_is_reported_with_its_code_and_work() {
    let ran = Stage::new("echo half > f; echo broken >&2; exit 42").run();
    assert_eq!(ran.code, 42);
    let Ending::Failed { reason: FailureReason::ProviderFailed, message, exit_code: Some(42) } =
        &ran.result.ending
    else {
        panic!("{:?}", ran.result.ending)
    };
    assert!(message.contains("broken"), "{message}");
    assert!(ran.changes().contains_key("f"));
    assert_eq!(ran.event("dispatch.failed")["reason"], "provider-failed");
}

#[test]
fn a_program_that_does_not_exist_is_the_workers_failure() {
    for mut stage in [Stage::new(""), Stage::bare("")] {
        stage.envelope.agent.as_mut().unwrap().program = "no-such-agent".to_owned();
        let ran = stage.run();
        assert_eq!(ran.code, 1);
        let Ending::Failed { reason: FailureReason::WorkerFailed, message, .. } = &ran.result.ending else {
            panic!("{:?}", ran.result.ending)
        };
        assert!(message.contains("no-such-agent"), "{message}");
        assert!(ran.result.agent.is_none() && !ran.stdout.contains("runtime.adapter.ran"));
    }
}

#[test]
fn the_time_limit_ends_the_whole_tree() {
    for (mut stage, mark) in [
        (Stage::new("trap '' TERM; echo x > f; sleep 8888.1 & sleep 8888.1; sleep 8888.1"), "8888.1"),
        (Stage::bare("trap '' TERM; echo x > f; sleep 8888.2 & sleep 8888.2; sleep 8888.2"), "8888.2"),
    ] {
        stage.envelope.limits.agent_timeout_ms = 700;
        stage.envelope.limits.grace_ms = 300;
        let ran = stage.run();
        assert_eq!(ran.code, 124, "{}", ran.stdout);
        let Ending::Failed { reason: FailureReason::Timeout, exit_code: Some(124), .. } = ran.result.ending
        else {
            panic!("{:?}", ran.result.ending)
        };
        assert!(ran.result.agent.as_ref().unwrap().timed_out);
        assert!(ran.changes().contains_key("f"));
        assert!(!runs(mark));
    }
}

#[test]
fn a_polite_stop_keeps_the_partial_work() {
    for (stage, mark) in [
        (
            Stage::new(
                "trap 'echo bye > bye; exit 0' TERM; echo half > f; while :; do sleep 0.05; done; : 6666.1",
            ),
            "6666.1",
        ),
        (
            Stage::bare(
                "trap 'echo bye > bye; exit 0' TERM; echo half > f; while :; do sleep 0.05; done; : 6666.2",
            ),
            "6666.2",
        ),
    ] {
        let child = stage.spawn();
        eventually("the agent works", || stage.workspace().join("f").exists());
        kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
        let ran = stage.collect(child);
        assert_eq!(ran.code, 0);
        assert_eq!(ran.result.ending, Ending::Cancelled {}, "{}", ran.stdout);
        assert!(
            ran.changes().contains_key("f") && ran.changes().contains_key("bye"),
            "{:?}",
            ran.changes().keys()
        );
        assert_eq!(ran.event("dispatch.cancelled")["dispatchId"], stage.envelope.dispatch.as_str());
        assert!(!runs(mark));
    }
}

#[test]
fn a_killed_worker_takes_its_sandbox_along() {
    let stage = Stage::new("trap '' TERM; echo x > f; sleep 5555.1 & sleep 5555.1");
    let mut child = stage.spawn();
    eventually("the agent works", || stage.workspace().join("f").exists());
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(9));
    eventually("everything ends", || !runs("5555.1"));
    assert!(!stage.result_dir().join("result.json").exists());
}

#[test]
fn a_question_is_handed_over() {
    let ran = Stage::new(r#"mkdir -p .pangolin; echo '{"question":"which one?","options":["a","b"]}' > .pangolin/needs_input.json; exit 1"#).run();
    assert_eq!(ran.code, 0);
    assert_eq!(ran.result.ending, Ending::NeedsInput {});
    assert_eq!(ran.event("dispatch.needs_input")["question"], "which one?");
    assert_eq!(ran.result.needs_input.unwrap()["options"][1], "b");
    for bad in ["{}", "nonsense", r#"{"question":3}"#] {
        let ran = Stage::new(&format!("mkdir -p .pangolin; echo '{bad}' > .pangolin/needs_input.json")).run();
        assert!(
            matches!(ran.result.ending, Ending::Failed { reason: FailureReason::WorkerFailed, .. }),
            "{bad}"
        );
    }
}

#[test]
fn an_old_question_is_not_asked_again() {
    let stage = Stage::new("true");
    stage.file(".pangolin/needs_input.json", r#"{"question":"old"}"#);
    assert_eq!(stage.run().result.ending, Ending::Finished {});
}

#[test]
fn setup_and_context_are_checked_before_the_agent() {
    let mut stage = Stage::new("echo ran > agent-ran");
    stage.file("pangolin-setup.sh", "echo cannot >&2; exit 9");
    let ran = stage.run();
    let Ending::Failed { reason: FailureReason::WorkerFailed, message, .. } = &ran.result.ending else {
        panic!("{:?}", ran.result.ending)
    };
    assert!(message.contains("code 9") && message.contains("cannot"), "{message}");
    assert!(!stage.workspace().join("agent-ran").exists());

    stage.file("pangolin-setup.sh", "sleep 4444.1");
    stage.envelope.limits.setup_timeout_ms = 300;
    let ran = stage.run();
    assert!(matches!(&ran.result.ending, Ending::Failed { message, .. } if message.contains("300 ms")));
    assert!(!runs("4444.1"));

    let mut stage = Stage::new("echo ran > agent-ran");
    stage.file("src/a/x.rs", "");
    let needs = |glob: &str, min_count| ContextRequirement::Paths { glob: glob.to_owned(), min_count };
    stage.envelope.context_requires = vec![
        needs("src/**/*.rs", 1),
        needs("**/*.md", 1),
        ContextRequirement::Exec { bin: "sh".to_owned() },
        ContextRequirement::Exec { bin: "no-such-tool".to_owned() },
        ContextRequirement::Git { needs: "worktree".to_owned() },
    ];
    let ran = stage.run();
    let Ending::Failed { reason: FailureReason::WorkerFailed, message, .. } = &ran.result.ending else {
        panic!("{:?}", ran.result.ending)
    };
    assert!(
        message.contains("**/*.md") && message.contains("no-such-tool") && message.contains("git"),
        "{message}"
    );
    assert!(!message.contains("src/**") && !message.contains("\"sh\""), "{message}");
    assert!(!stage.workspace().join("agent-ran").exists());
}

#[test]
fn huge_output_is_cut_and_said() {
    let mut stage = Stage::new("echo first; head -c 3000000 /dev/zero | tr '\\0' x; echo; echo last");
    stage.envelope.limits.stdout_bytes = 200_000;
    let ran = stage.run();
    let agent = ran.result.agent.as_ref().unwrap();
    assert!(agent.truncated);
    let file = fs::read(stage.result_dir().join("agent.stdout")).unwrap();
    assert!(file.len() <= 200_000, "{}", file.len());
    assert_eq!(Digest::of(&file), agent.stdout);
    let text = String::from_utf8(file).unwrap();
    assert!(text.starts_with("first\n") && text.ends_with("last\n") && text.contains("<truncated: "));
    assert!(ran.agent_stdout().len() < 70_000 && ran.agent_stdout().contains("<truncated: "));
}

#[test]
fn a_gate_that_takes_too_long_ends_with_124() {
    let mut stage = Stage::new("true");
    stage.blocks(serde_json::json!([{"kind": "agent"}, {"kind": "script", "command": "sleep 3333.1", "timeoutSeconds": 1}]));
    let ran = stage.run();
    assert_eq!(ran.code, 124);
    assert!(matches!(
        ran.result.ending,
        Ending::Failed { reason: FailureReason::ProviderFailed, exit_code: Some(124), .. }
    ));
}

#[test]
fn a_broken_pipeline_is_an_integrity_failure() {
    let mut stage = Stage::new("true");
    stage.envelope.pipeline.blocks.clear();
    let ran = stage.run();
    assert!(matches!(&ran.result.ending,
        Ending::Failed { reason: FailureReason::IntegrityFailed, message, .. } if message.contains("/blocks")));
}

#[test]
fn a_broken_start_says_why() {
    let output = Command::new(env!("CARGO_BIN_EXE_pangolin-worker")).env_clear().output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let line: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(line["message"].as_str().unwrap().contains("PANGOLIN_RESULT_KEY"), "{line}");

    let mut stage = Stage::new("true");
    stage.envelope.v = 99;
    let ran = stage.run();
    assert_eq!(ran.code, 1);
    assert!(matches!(&ran.result.ending, Ending::Failed { message, .. } if message.contains("99")));

    let mut stage = Stage::bare("true");
    stage.envelope.network = "none".to_owned();
    assert!(
        matches!(&stage.run().result.ending, Ending::Failed { message, .. } if message.contains("network"))
    );

    let mut stage = Stage::new("true");
    stage.envelope.agent = None;
    assert!(
        matches!(&stage.run().result.ending, Ending::Failed { message, .. } if message.contains("launch plan"))
    );
}
