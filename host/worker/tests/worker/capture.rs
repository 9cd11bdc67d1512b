//! What is captured, byte for byte.

use std::{
    ffi::OsStr,
    fs,
    os::unix::{
        ffi::OsStrExt,
        fs::{PermissionsExt, symlink},
    },
    path::Path,
};

use pangolin_core::ids::Digest;
use pangolin_envelope::result::Ending;

use crate::harness::Stage;

#[test]
fn every_kind_of_change_is_captured_exactly() {
    let stage = Stage::new(
        r#"set -e
        printf 'new text' > edited.txt
        printf '\000\001\377bin' > blob.bin
        mv old-name.txt new-name.txt
        chmod +x script.sh
        rm deleted.txt
        : > empty.txt
        rm file-then-dir; mkdir file-then-dir; echo inner > file-then-dir/inner
        rm -r dir-then-file; echo flat > dir-then-file
        ln -sf edited.txt link
        rm to-link; ln -s /etc/hostname to-link
        printf x > "$(printf 'caf\351')"
        printf p > 'per%cent'
        mkdir -p target node_modules/x; echo junk > target/out; echo junk > node_modules/x/y
        echo changed > tracked.log; echo new > fresh.log
        touch -d '2001-01-01' same.txt
        printf 'AAAA' > same-size.txt
        mkdir -p sub; echo '*.tmp' > sub/.gitignore; echo a > sub/a.tmp; echo b > sub/b
        mkdir -p .pangolin .git; echo x > .pangolin/note; echo x > .git/config"#,
    );
    stage.file(".gitignore", "target/\nnode_modules\n*.log\n");
    stage.file("edited.txt", "old text");
    stage.file("blob.bin", b"\0old");
    stage.file("old-name.txt", "moved");
    stage.file("script.sh", "#!/bin/sh\n");
    stage.file("deleted.txt", "bye");
    stage.file("file-then-dir", "file");
    stage.file("dir-then-file/inner", "inner");
    stage.file("to-link", "was a file");
    stage.file("tracked.log", "old");
    stage.file("same.txt", "same");
    stage.file("same-size.txt", "aaaa");
    symlink("old-name.txt", stage.workspace().join("link")).unwrap();
    let ran = stage.run();
    assert_eq!(ran.result.ending, Ending::Finished {}, "{}", ran.stdout);
    let changes = ran.changes();
    let expected = [
        "blob.bin",
        "caf%E9",
        "deleted.txt",
        "dir-then-file",
        "dir-then-file/inner",
        "edited.txt",
        "empty.txt",
        "file-then-dir",
        "file-then-dir/inner",
        "link",
        "new-name.txt",
        "old-name.txt",
        "per%25cent",
        "same-size.txt",
        "script.sh",
        "sub/.gitignore",
        "sub/b",
        "to-link",
        "tracked.log",
    ];
    assert_eq!(changes.keys().copied().collect::<Vec<_>>(), expected);
    let after = |path: &str| changes[path].after.clone().unwrap();
    let before = |path: &str| changes[path].before.clone().unwrap();
    assert_eq!((before("script.sh").mode.as_str(), after("script.sh").mode.as_str()), ("100644", "100755"));
    assert_eq!((before("to-link").mode.as_str(), after("to-link").mode.as_str()), ("100644", "120000"));
    assert_eq!(after("to-link").digest, Digest::of(b"/etc/hostname"));
    assert_eq!((after("empty.txt").size, after("empty.txt").digest), (0, Digest::of(b"")));
    assert_eq!(before("old-name.txt").digest, after("new-name.txt").digest);
    assert!(changes["old-name.txt"].after.is_none() && changes["new-name.txt"].before.is_none());
    assert_eq!(before("blob.bin").digest, Digest::of(b"\0old"));
    let root = stage.result_dir().join("capture");
    assert_eq!(fs::read(root.join("after/blob.bin")).unwrap(), b"\0\x01\xffbin");
    assert_eq!(fs::read(root.join("before/blob.bin")).unwrap(), b"\0old");
    assert_eq!(fs::read_link(root.join("before/link")).unwrap(), Path::new("old-name.txt"));
    assert_eq!(fs::read_link(root.join("after/link")).unwrap(), Path::new("edited.txt"));
    assert_eq!(fs::read(root.join("after").join(OsStr::from_bytes(b"caf\xe9"))).unwrap(), b"x");
    assert_ne!(fs::metadata(root.join("after/script.sh")).unwrap().permissions().mode() & 0o111, 0);
    assert_eq!(fs::metadata(root.join("before/script.sh")).unwrap().permissions().mode() & 0o111, 0);
    assert!(!root.join("after/same.txt").exists() && !root.join("after/deleted.txt").exists());
    assert!(ran.result.not_captured.is_empty(), "{:?}", ran.result.not_captured);
}

#[test]
fn what_cannot_be_captured_is_named() {
    let mut stage = Stage::new(
        r#"mkfifo pipe; head -c 3000 /dev/zero > big; echo ok > small
        mkdir outputs; ln -s /etc/passwd outputs/link; mkfifo outputs/fifo
        printf x > "outputs/$(printf 'b\377d')"
        head -c 2000 /dev/zero > outputs/large; echo 1 > outputs/a; mkdir outputs/d; echo 2 > outputs/d/b; echo 3 > outputs/z"#,
    );
    stage.envelope.limits.capture_bytes = 2_000;
    stage.envelope.limits.output_file_bytes = 1_000;
    stage.envelope.limits.output_files = 2;
    let ran = stage.run();
    assert_eq!(ran.result.ending, Ending::Finished {});
    assert_eq!(ran.changes().keys().copied().collect::<Vec<_>>(), ["small"]);
    let outputs: Vec<_> = ran.result.outputs.iter().map(|output| output.path.as_str()).collect();
    assert_eq!(outputs, ["a", "d/b"]);
    assert_eq!(ran.result.outputs[1].digest, Digest::of(b"2\n"));
    assert_eq!(fs::read(stage.result_dir().join("outputs/d/b")).unwrap(), b"2\n");
    let said = ran.result.not_captured.join("\n");
    for (path, why) in [
        ("pipe: ", "fifo"),
        ("big: ", "over the limit of 2000"),
        ("outputs/link: ", "not a regular file"),
        ("outputs/fifo: ", "not a regular file"),
        ("outputs/b%FFd: ", "not UTF-8"),
        ("outputs/large: ", "over the limit"),
        ("outputs/z: ", "over the limit of 2 output files"),
    ] {
        assert!(
            said.lines().any(|line| line.starts_with(path) && line.contains(why)),
            "{path}{why} in\n{said}"
        );
    }
    assert!(ran.event("escape.failed")["message"].is_string());
    assert!(!ran.result.blocks[1].ok && !ran.result.blocks[2].ok);
}

#[test]
fn links_out_of_the_workspace_are_not_followed() {
    let stage = Stage::new("rm -r d; ln -s /etc d; ln -s /etc outputs");
    stage.file("d/passwd", "ours");
    let ran = stage.run();
    let changes = ran.changes();
    assert_eq!(changes.keys().copied().collect::<Vec<_>>(), ["d", "d/passwd"]);
    assert_eq!(changes["d"].after.as_ref().unwrap().digest, Digest::of(b"/etc"));
    assert!(changes["d/passwd"].after.is_none());
    assert!(ran.result.outputs.is_empty());
    assert!(
        ran.result.not_captured.iter().any(|line| line.starts_with("outputs: ")),
        "{:?}",
        ran.result.not_captured
    );
}

#[test]
fn a_failed_gate_keeps_the_partial_work() {
    let mut stage = Stage::new("echo half > work.txt; mkdir outputs; echo log > outputs/report");
    stage.blocks(serde_json::json!([
        {"kind": "agent"},
        {"kind": "script", "command": "echo not good >&2; exit 7"},
        {"kind": "capture", "what": "patch"},
    ]));
    let ran = stage.run();
    assert_eq!(ran.code, 7);
    let Ending::Failed { reason, message, exit_code } = &ran.result.ending else {
        panic!("{:?}", ran.result.ending)
    };
    assert_eq!(serde_json::to_value(reason).unwrap(), "provider-failed");
    assert_eq!(*exit_code, Some(7));
    assert!(message.contains("not good"), "{message}");
    assert!(ran.changes().contains_key("work.txt"));
    assert_eq!(ran.result.outputs[0].path, "report");
    assert_eq!(ran.result.blocks.len(), 2);
    assert!(ran.result.blocks[0].ok && !ran.result.blocks[1].ok);
    assert_eq!(ran.event("script.gate.ran")["exitCode"], 7);
}

#[test]
fn what_setup_and_capabilities_brought_is_not_part_of_the_change() {
    let mut stage = Stage::new("cat $HOME/tool; echo agent > by-agent");
    stage.capability(
        "tools",
        &[
            ("pangolin-setup.sh", "echo installed > by-setup; echo kept > $HOME/tool; echo hello"),
            ("skill.md", "x"),
        ],
    );
    let ran = stage.run();
    assert_eq!(ran.event("setup-script.ran")["stdout"], "hello\n");
    assert_eq!(ran.agent_stdout(), "kept\n");
    assert_eq!(ran.changes().keys().copied().collect::<Vec<_>>(), ["by-agent"]);
}
