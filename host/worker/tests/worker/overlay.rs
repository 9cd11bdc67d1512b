//! Bundles and inputs: merge rules, integrity, hostile paths.

use std::{fs, os::unix::fs::symlink};

use pangolin_core::entry::FailureReason;
use pangolin_envelope::result::Ending;

use crate::harness::{Ran, Stage};

fn reason(ran: &Ran) -> (FailureReason, String) {
    match &ran.result.ending {
        Ending::Failed { reason, message, .. } => (*reason, message.clone()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn later_bundles_win_and_settings_merge() {
    let mut stage = Stage::new(
        "cat a.txt .claude/settings.json sub/pangolin-plugins.json inputs/deps/x.patch; echo y > inputs/z || echo locked",
    );
    stage.capability(
        "one",
        &[
            ("a.txt", "1"),
            (".claude/settings.json", r#"{"allow":["x"],"n":{"a":1}}"#),
            ("sub/pangolin-plugins.json", "[1]"),
        ],
    );
    stage.capability(
        "two",
        &[
            ("a.txt", "2"),
            (".claude/settings.json", r#"{"allow":["y"],"n":{"b":2}}"#),
            ("sub/pangolin-plugins.json", "[1,2]"),
        ],
    );
    stage.input("deps/x.patch", b"patch!");
    let ran = stage.run();
    let squeezed: String = ran.agent_stdout().split_whitespace().collect();
    assert_eq!(squeezed, r#"2{"allow":["x","y"],"n":{"a":1,"b":2}}[1,2]patch!locked"#);
    assert_eq!(ran.result.ending, Ending::Finished {});
}

#[test]
fn a_clash_in_a_merge_is_an_integrity_failure() {
    let mut stage = Stage::new("true");
    stage.capability("one", &[(".claude/settings.json", r#"{"a":{}}"#)]);
    stage.capability("two", &[(".claude/settings.json", r#"{"a":1}"#)]);
    let (reason, message) = reason(&stage.run());
    assert_eq!(reason, FailureReason::IntegrityFailed);
    assert!(message.contains("two") && message.contains("/a"), "{message}");
}

#[test]
fn changed_bytes_are_refused_before_anything_is_written() {
    let mut stage = Stage::new("true");
    stage.capability("one", &[("a.txt", "1")]);
    let file = stage.path("envelope").join("capability-0");
    let mut bytes = fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&file, bytes).unwrap();
    let ran = stage.run();
    assert_eq!(ran.code, 1);
    assert_eq!(reason(&ran).0, FailureReason::IntegrityFailed);
    assert!(!stage.workspace().join("a.txt").exists());
    assert!(!ran.stdout.contains("dispatch.started"));
}

#[test]
fn hostile_paths_write_nowhere() {
    for path in ["../escape", "/tmp/escape", "a/../../escape", "a\\b", ".git/config"] {
        let mut stage = Stage::new("true");
        let header =
            serde_json::json!({"name": "evil", "entries": [{"path": path, "size": 1, "mode": "100644"}]});
        stage.raw_capability("evil", format!("{header}\nx").as_bytes());
        let ran = stage.run();
        assert_eq!(reason(&ran).0, FailureReason::IntegrityFailed, "{path}");
        assert!(!stage.path("escape").exists());
        assert_eq!(fs::read_dir(stage.workspace()).unwrap().count(), 0, "{path}");
    }
    let mut stage = Stage::new("true");
    stage.input("../../escape", b"x");
    assert_eq!(reason(&stage.run()).0, FailureReason::IntegrityFailed);
    assert!(!stage.path("escape").exists());
}

#[test]
fn nothing_is_written_through_a_link() {
    let mut stage = Stage::new("true");
    fs::create_dir(stage.path("outside")).unwrap();
    fs::write(stage.path("outside/target"), "original").unwrap();
    symlink(stage.path("outside"), stage.workspace().join("dir")).unwrap();
    stage.capability("one", &[("dir/new", "x")]);
    let (reason, message) = reason(&stage.run());
    assert_eq!(reason, FailureReason::IntegrityFailed);
    assert!(message.contains("dir/new"), "{message}");
    assert!(!stage.path("outside/new").exists());

    let mut stage = Stage::new("cat leaf");
    fs::write(stage.path("target"), "original").unwrap();
    symlink(stage.path("target"), stage.workspace().join("leaf")).unwrap();
    stage.capability("one", &[("leaf", "mine")]);
    let ran = stage.run();
    assert_eq!(ran.agent_stdout(), "mine");
    assert_eq!(fs::read_to_string(stage.path("target")).unwrap(), "original");
}
