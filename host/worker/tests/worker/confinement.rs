//! What a sandboxed command can see and do.

use std::{fs, net::TcpListener, process::Command};

use pangolin_core::entry::FailureReason;
use pangolin_envelope::result::Ending;

use crate::harness::{Stage, runs};

#[test]
fn only_the_workspace_and_system_directories_are_visible() {
    let mut stage = Stage::new(
        r#"ls -A / | tr '\n' ' '; echo; id -u; id -un; grep CapEff /proc/self/status; grep NoNewPrivs /proc/self/status
        ls "$ROOT"; test -e "$ROOT/result" && echo SEES-RESULT; test -e "$ROOT/envelope" && echo SEES-ENVELOPE
        ls /root /home 2>&1
        touch /usr/x /etc/x /x 2>/dev/null && echo WRITES-SYSTEM
        unshare -U true 2>/dev/null && echo NESTS
        head -c1 /etc/shadow 2>/dev/null && test -s /etc/shadow && echo SHADOW
        echo core > /proc/sys/kernel/core_pattern 2>/dev/null && echo SYSCTL
        mount -t tmpfs x /mnt 2>/dev/null && echo MOUNTS
        ls /dev | tr '\n' ' '; ps ax 2>/dev/null | wc -l; hostname
        touch /tmp/ok "$HOME/ok" /dev/shm/ok && echo private-places"#,
    );
    let root = stage.directory.path().canonicalize().unwrap().to_string_lossy().into_owned();
    stage.layer(&[("ROOT", &root)], &[]);
    let ran = stage.run();
    let seen = ran.agent_stdout();
    assert_eq!(ran.result.ending, Ending::Finished {}, "{}", ran.stdout);
    for bad in ["SEES-", "WRITES-SYSTEM", "NESTS", "SHADOW", "SYSCTL", "MOUNTS"] {
        assert!(!seen.contains(bad), "{bad} in\n{seen}");
    }
    for good in
        ["1000\nagent\n", "CapEff:\t0000000000000000", "NoNewPrivs:\t1", "\npangolin\n", "private-places"]
    {
        assert!(seen.contains(good), "{good:?} in\n{seen}");
    }
    let top = seen.lines().next().unwrap();
    for hidden in ["work", "boot", "sys", "mnt", "srv", "root"] {
        assert!(!top.split(' ').any(|name| name == hidden), "{hidden} in {top}");
    }
    for mechanism in ["userns", "pidns", "mountns", "netns", "no-new-privs", "rlimits", "cap-drop-all"] {
        assert!(ran.result.mechanisms.iter().any(|name| name == mechanism), "{:?}", ran.result.mechanisms);
    }
    assert!(!std::path::Path::new("/tmp/ok").exists());
}

#[test]
fn there_is_no_network_but_a_loopback_of_its_own() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let script = r#"if bash -c "exec 3<>/dev/tcp/127.0.0.1/$PORT" 2>/dev/null; then echo CONNECTED; else echo refused; fi
        cat /proc/net/dev | tail -n +3 | cut -d: -f1"#;
    let mut stage = Stage::new(script);
    stage.layer(&[("PORT", &port)], &[]);
    let ran = stage.run();
    let words: Vec<_> = ran.agent_stdout().split_whitespace().collect();
    assert_eq!(words.first(), Some(&"refused"), "{}", ran.agent_stdout());
    assert!(words.contains(&"lo") && !words.contains(&"eth0"), "{words:?}");
    // The same command with the host's network does reach it, so the test means something.
    stage.envelope.network = "host".to_owned();
    let ran = stage.run();
    assert!(ran.agent_stdout().starts_with("CONNECTED"), "{}", ran.agent_stdout());
    assert!(!ran.result.mechanisms.iter().any(|name| name == "netns"));
}

/// The shell ends when it cannot start one more process; the file says how many there were.
fn processes(mut stage: Stage) -> u32 {
    stage.envelope.limits.pids = 64;
    let ran = stage.run();
    assert!(matches!(ran.result.ending, Ending::Failed { .. }), "{}", ran.stdout);
    assert!(!runs("1111.1"));
    fs::read_to_string(stage.workspace().join("count")).unwrap().trim().parse().unwrap()
}

#[test]
fn processes_are_bounded() {
    let script = "i=0; while [ $i -lt 2000 ]; do i=$((i+1)); echo $i > count; sleep 1111.1 & done; sleep 1";
    // Root is not subject to RLIMIT_NPROC; there the kernel's smallest pid_max of a namespace is the bound.
    let count = processes(Stage::new(script));
    assert!(count <= 301, "{count} processes");
    let mut stage = Stage::new(script);
    if stage.as_ordinary_user() {
        let count = processes(stage);
        assert!(count <= 64, "{count} processes");
    }
}

#[test]
fn without_the_kernels_help_the_dispatch_fails_instead_of_running_weaker() {
    let mut stage = Stage::new("echo ran > ran");
    let forbid = "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$@\"";
    stage.starter =
        ["unshare", "--user", "--map-root-user", "sh", "-c", forbid, "sh"].map(str::to_owned).to_vec();
    let ran = stage.run();
    assert_eq!(ran.code, 1);
    let Ending::Failed { reason: FailureReason::WorkerFailed, message, .. } = &ran.result.ending else {
        panic!("{:?}", ran.result.ending)
    };
    assert!(message.contains("user namespace") && message.contains("container"), "{message}");
    assert!(!stage.workspace().join("ran").exists());
    assert!(ran.result.mechanisms.is_empty());
}

#[test]
fn the_git_pointer_of_a_worktree_cannot_be_redirected() {
    let stage = Stage::new("echo 'gitdir: /evil' > .git; rm -f .git; mv .git x; cat .git");
    stage.file(".git", "gitdir: /somewhere\n");
    let ran = stage.run();
    assert_eq!(ran.agent_stdout(), "gitdir: /somewhere\n");
    assert_eq!(fs::read_to_string(stage.workspace().join(".git")).unwrap(), "gitdir: /somewhere\n");
}

#[test]
fn detached_processes_do_not_survive() {
    for stage in [
        Stage::new("(setsid sh -c 'trap \"\" TERM HUP; sleep 7777.1' >/dev/null 2>&1 &) ; echo started"),
        Stage::bare("(setsid sh -c 'trap \"\" TERM HUP; sleep 7777.2' >/dev/null 2>&1 &) ; echo started"),
    ] {
        let ran = stage.run();
        assert_eq!(ran.agent_stdout(), "started\n");
        assert_eq!(ran.result.ending, Ending::Finished {});
    }
    assert!(!runs("7777.1") && !runs("7777.2"), "a detached process survived");
}

#[test]
fn the_probe_tells_the_truth() {
    let probe = |args: &[&str]| {
        let output =
            Command::new(env!("CARGO_BIN_EXE_pangolin-worker")).arg("probe").args(args).output().unwrap();
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    let answer = probe(&["--isolation", "sandbox", "--network", "none"]);
    assert_eq!(answer["available"], true, "{answer}");
    assert!(answer["mechanisms"].as_array().unwrap().iter().any(|name| name == "netns"));
    let answer = probe(&["--isolation", "none", "--network", "none"]);
    assert_eq!(answer["available"], false);
    assert!(answer["missing"].as_str().unwrap().contains("sandbox"));
}

#[test]
fn an_ordinary_user_gets_the_same_sandbox() {
    let mut stage = Stage::new("id -u; echo x > f; head -c1 /etc/shadow; sleep 2222.1 &");
    if !stage.as_ordinary_user() {
        return;
    }
    let ran = stage.run();
    assert_eq!(ran.result.ending, Ending::Finished {}, "{}", ran.stdout);
    assert_eq!(ran.agent_stdout(), "1000\n");
    assert!(ran.changes().contains_key("f"));
    assert!(ran.result.mechanisms.iter().any(|name| name == "userns"));
    assert!(!runs("2222.1"));
}

#[test]
fn memory_and_file_size_are_bounded() {
    let mut stage = Stage::new(
        "head -c 200000000 /dev/zero | tail >/dev/null 2>&1 || echo memory
        head -c 3000000 /dev/zero > f 2>/dev/null || echo file; wc -c < f; ulimit -c",
    );
    stage.envelope.limits.memory_bytes = 64 << 20;
    stage.envelope.limits.file_bytes = 2_000_000;
    let ran = stage.run();
    let words: Vec<_> = ran.agent_stdout().split_whitespace().collect();
    assert_eq!(words, ["memory", "file", "2000000", "0"], "{}", ran.stdout);
}

#[test]
fn operator_paths_are_visible_and_read_only() {
    let mut stage = Stage::new("cat \"$TOOLS/tool\"; touch \"$TOOLS/x\" 2>/dev/null || echo locked");
    fs::create_dir(stage.path("tools")).unwrap();
    fs::write(stage.path("tools/tool"), "here ").unwrap();
    let tools = stage.path("tools").to_string_lossy().into_owned();
    stage.layer(&[("TOOLS", &tools)], &[]);
    stage.envelope.read_only_paths.push(tools);
    assert_eq!(stage.run().agent_stdout(), "here locked\n");
    stage.envelope.read_only_paths.push("/no/such/place".to_owned());
    let ran = stage.run();
    assert!(
        matches!(&ran.result.ending, Ending::Failed { message, .. } if message.contains("/no/such/place"))
    );
}
