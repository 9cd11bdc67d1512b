//! Secrets, the environment firewall and the result key.

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt};

use pangolin_core::entry::FailureReason;
use pangolin_envelope::result::Ending;

use crate::harness::{KEY, Stage};

fn variables(text: &str) -> BTreeMap<&str, &str> {
    text.lines().filter_map(|line| line.split_once('=')).collect()
}

#[test]
fn the_firewall_lets_only_the_listed_variables_through() {
    let mut stage = Stage::new("env");
    for (name, value) in [
        ("LC_ALL", "C"),
        ("TZ", "UTC"),
        ("AWS_REGION", "eu-1"),
        ("CUSTOM", "yes"),
        ("OTHER", "no"),
        ("AWS_SECRET_ACCESS_KEY", "aws"),
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "aws"),
        ("SSH_AUTH_SOCK", "/x"),
        ("HOME", "/root"),
    ] {
        stage.host_env.insert(name.to_owned(), value.to_owned());
    }
    stage.envelope.env_allow =
        ["CUSTOM", "AWS_SECRET_ACCESS_KEY", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "PANGOLIN_RESULT_KEY"]
            .map(str::to_owned)
            .to_vec();
    stage.layer(&[("A", "1"), ("TZ", "CET")], &[]);
    stage.layer(&[("A", "2")], &[]);
    let ran = stage.run();
    let env = variables(ran.agent_stdout());
    assert_eq!(env["A"], "2");
    assert_eq!(env["TZ"], "CET");
    assert_eq!(env["CUSTOM"], "yes");
    assert_eq!(env["HOME"], "/home/agent");
    assert_eq!(env["PANGOLIN_INPUT_JSON"], r#"{"file":"a.txt"}"#);
    assert_eq!(env["PANGOLIN_ITEM_ID"], "item-1");
    let mut names: Vec<_> =
        env.keys().copied().filter(|name| !matches!(*name, "PWD" | "_" | "SHLVL" | "OLDPWD")).collect();
    names.sort_unstable();
    let expected = [
        "A",
        "AWS_REGION",
        "CUSTOM",
        "HOME",
        "LC_ALL",
        "LOGNAME",
        "PANGOLIN_DISPATCH_ID",
        "PANGOLIN_INPUT_JSON",
        "PANGOLIN_ITEM_ID",
        "PANGOLIN_RUN_ID",
        "PATH",
        "TZ",
        "USER",
    ];
    assert_eq!(names, expected);
    assert!(!ran.stdout.contains(KEY));
}

#[test]
fn secrets_reach_the_agent_and_no_log() {
    let mut stage = Stage::new(
        r#"test "$TOKEN" = s3cr3t-value-42 && echo right; echo "$TOKEN"
        i=0; while [ $i -lt 20 ]; do printf 's3cr3t-'; printf 'value-42 '; i=$((i+1)); done
        echo "$TOKEN" >&2; exit 3"#,
    );
    stage.layer(&[("PLAIN", "a-plain-value")], &[("TOKEN", "api-token")]);
    stage.secrets(serde_json::json!({"api-token": "s3cr3t-value-42"}));
    let ran = stage.run();
    assert_eq!(ran.code, 3);
    assert!(ran.agent_stdout().starts_with("right\n<redacted:secret>\n"), "{}", ran.agent_stdout());
    assert!(!ran.stdout.contains("s3cr3t-value"), "{}", ran.stdout);
    for name in ["result.json", "agent.stdout", "agent.stderr"] {
        let text = String::from_utf8(fs::read(stage.result_dir().join(name)).unwrap()).unwrap();
        assert!(!text.contains("s3cr3t-value"), "{name}");
    }
    assert!(
        matches!(&ran.result.ending, Ending::Failed { message, .. } if message.contains("<redacted:secret>"))
    );
}

#[test]
fn a_missing_secret_is_a_fetch_failure() {
    let mut stage = Stage::new("true");
    stage.layer(&[], &[("TOKEN", "nowhere")]);
    stage.secrets(serde_json::json!({"other": "x"}));
    let ran = stage.run();
    assert_eq!(ran.code, 1);
    let Ending::Failed { reason: FailureReason::FetchFailed, message, .. } = &ran.result.ending else {
        panic!("{:?}", ran.result.ending)
    };
    assert!(message.contains("nowhere") && message.contains("TOKEN"), "{message}");
}

#[test]
fn the_agent_cannot_read_the_key_or_forge_a_result() {
    // In a sandbox nothing of the worker is visible.
    let script = r#"
        for p in /proc/[0-9]*; do cat $p/environ 2>/dev/null | tr '\0' '\n'; ls -l $p/fd 2>/dev/null; ls $p/root/ 2>/dev/null; done > seen
        cat /proc/1/mem > mem 2>/dev/null
        cat /proc/1/environ > env1 2>&1; cat /proc/1/maps > maps1 2>&1
        true"#;
    let ran = check_secrecy(&Stage::new(script));
    assert!(ran.contains("Permission denied"), "pid 1 must be closed: {ran}");
    // Without a sandbox the kernel keeps other processes out because the worker is not dumpable. Root may do
    // everything, so this half is about an ordinary user.
    let mut bare = Stage::bare(script);
    if bare.as_ordinary_user() {
        check_secrecy(&bare);
    }
}

fn check_secrecy(stage: &Stage) -> String {
    let ran = stage.run();
    assert_eq!(ran.result.ending, Ending::Finished {}, "{}", ran.stdout);
    let mut all = String::new();
    for name in ["seen", "mem", "env1", "maps1"] {
        let bytes = fs::read(stage.workspace().join(name)).unwrap_or_default();
        all.push_str(&String::from_utf8_lossy(&bytes));
    }
    assert!(!all.contains(KEY), "the key leaked");
    assert!(!all.contains("PANGOLIN_RESULT_KEY"), "the worker's environment leaked");
    all
}

#[test]
fn altered_copies_of_the_state_before_are_noticed() {
    let mut stage = Stage::bare(
        "for f in $RESULT/.private/before/*; do echo evil > $f; done; rm $RESULT/.private/before/0; echo x > a; echo x > b; echo x > c",
    );
    let result = stage.result_dir().to_string_lossy().into_owned();
    stage.layer(&[("RESULT", &result)], &[]);
    stage.file("a", "a");
    stage.file("b", "b");
    let ran = stage.run();
    assert_eq!(ran.changes().keys().copied().collect::<Vec<_>>(), ["c"]);
    assert_eq!(ran.result.not_captured.len(), 2, "{:?}", ran.result.not_captured);
    assert!(!stage.result_dir().join("capture/before/b").exists());
}

#[test]
fn a_link_in_place_of_private_files_is_not_followed() {
    let mut stage = Stage::bare(
        "rm -r $RESULT/.private; mkdir ../outside; chmod 755 ../outside; ln -s $PWD/../outside $RESULT/.private",
    );
    let result = stage.result_dir().to_string_lossy().into_owned();
    stage.layer(&[("RESULT", &result)], &[]);
    stage.run();
    let mode = fs::metadata(stage.path("outside")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o755);
}

#[test]
fn a_planted_result_is_replaced_by_the_real_one() {
    let mut stage = Stage::bare(
        "mkdir -p $RESULT/result.json $RESULT/outputs; echo x > $RESULT/outputs/forged; rm -r $RESULT/.private/before; echo hi > f",
    );
    let result = stage.result_dir().to_string_lossy().into_owned();
    stage.layer(&[("RESULT", &result)], &[]);
    stage.file("kept", "x");
    let ran = stage.run();
    assert_eq!(ran.result.ending, Ending::Finished {});
    assert!(ran.result.outputs.is_empty());
    assert!(!stage.result_dir().join("outputs/forged").exists());
    assert!(ran.changes().contains_key("f"));
}
