//! The scripts of `examples/offload-fanout` do what its README says: the check is red before the edits and green after
//! all three, and the verify gate is red when one of them is missing.

#![expect(clippy::unwrap_used, reason = "test helpers")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

const EDITS: [&str; 3] = ["alpha", "beta", "shared"];

fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/offload-fanout")
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() { copy(&path, &target) } else { fs::copy(&path, &target).map(|_| ()).unwrap() }
    }
}

/// A workspace as a worker has it: the project and one overlaid capability, without a repository above it.
fn workspace(test: &str, name: &str, capability: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test).join(name);
    fs::remove_dir_all(&dir).ok();
    copy(&example().join("repo"), &dir);
    copy(&example().join("capabilities").join(capability), &dir);
    dir
}

fn sh(dir: &Path, script: &[&str], input: &str) -> Output {
    Command::new("sh").args(script).current_dir(dir).env("PANGOLIN_INPUT_JSON", input).output().unwrap()
}

fn input(edit: &str) -> String {
    format!("{{\"file\":\"{edit}.ts\"}}")
}

/// The patch of one edit, with the paths that the host's patches have.
fn patch(test: &str, edit: &str) -> String {
    let dir = workspace(test, edit, "scripted-agent");
    let ran = sh(&dir, &["tools/agent.sh"], &input(edit));
    assert!(ran.status.success(), "{ran:?}");
    let ran = sh(&dir, &["tools/self-check.sh"], &input(edit));
    assert!(ran.status.success(), "{ran:?}");
    let file = format!("fixture/{edit}.ts");
    let diff = Command::new("diff")
        .args(["-u", "--label", &format!("a/{file}"), "--label", &format!("b/{file}")])
        .arg(example().join("repo").join(&file))
        .arg(dir.join(&file))
        .output()
        .unwrap();
    assert_eq!(diff.status.code(), Some(1), "the agent changed nothing in {file}");
    String::from_utf8(diff.stdout).unwrap()
}

/// Exit status and output of the verify gate with these patches.
fn verify(test: &str, patches: &[(&str, String)]) -> (Option<i32>, String) {
    let dir = workspace(test, "verify", "verify-tools");
    fs::create_dir_all(dir.join("inputs/deps")).unwrap();
    for (edit, patch) in patches {
        fs::write(dir.join(format!("inputs/deps/edit-{edit}.patch")), patch).unwrap();
    }
    let ran = sh(&dir, &["tools/verify.sh"], "{}");
    (
        ran.status.code(),
        format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr)),
    )
}

#[test]
fn the_check_is_red_before_the_edits() {
    let dir = workspace("red", "project", "verify-tools");
    let ran = sh(&dir, &["check.sh"], "{}");
    assert_eq!(ran.status.code(), Some(1));
    let text = String::from_utf8(ran.stdout).unwrap();
    for edit in EDITS {
        assert!(text.contains(&format!("red: fixture/{edit}.ts still throws")), "{text}");
    }
}

#[test]
fn the_gate_is_green_with_all_three_patches() {
    let patches: Vec<_> = EDITS.iter().map(|edit| (*edit, patch("green", edit))).collect();
    let (status, text) = verify("green", &patches);
    assert_eq!(status, Some(0), "{text}");
    for edit in EDITS {
        assert!(text.contains(&format!("check: green: fixture/{edit}.ts")), "{text}");
    }
}

#[test]
fn the_gate_is_red_when_a_patch_is_missing_broken_or_there_is_none() {
    let mut patches: Vec<_> = EDITS[..2].iter().map(|edit| (*edit, patch("partial", edit))).collect();
    let (status, text) = verify("partial", &patches);
    assert_eq!(status, Some(1), "{text}");
    assert!(text.contains("red: fixture/shared.ts"), "{text}");

    patches.push(("shared", patch("partial", "shared").replace("not implemented", "something else")));
    let (status, text) = verify("partial", &patches);
    assert!(status.is_some_and(|status| status != 0), "{text}");

    let (status, text) = verify("partial", &[]);
    assert_eq!(status, Some(2), "{text}");
}

#[test]
fn the_agent_refuses_names_outside_the_fixture() {
    let dir = workspace("refuse", "project", "scripted-agent");
    for name in ["../check.sh", "missing.ts", "", "a/b.ts"] {
        let ran = sh(&dir, &["tools/agent.sh"], &format!("{{\"file\":\"{name}\"}}"));
        assert_eq!(ran.status.code(), Some(2), "{name:?}: {ran:?}");
    }
}
