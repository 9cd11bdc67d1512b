//! The `command` adapter as the component that ships.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use pangolin_core::entry::UsageQuality;
use pangolin_plugin_host::{AdapterComponent, ExitInfo, Failure, OutcomeCode};
use support::task;

fn command() -> AdapterComponent {
    support::shared_host().load_adapter(pangolin_builtin_plugins::adapter("command").unwrap()).unwrap()
}

async fn fault(params: &str) -> (String, String) {
    match command().prepare(&task("command", &[("params", params)])).await.unwrap_err().failure {
        Failure::Fault { code, message, .. } => (code, message),
        other => panic!("{other:?}"),
    }
}

fn exit(code: i32) -> ExitInfo {
    ExitInfo { code: Some(code), ..ExitInfo::default() }
}

#[tokio::test]
async fn argv_is_passed_as_it_is_with_placeholders_filled() {
    let params = r#"{"argv":["tool","--file={{input.file}}","{{prompt}}","{{ input.deep.n.1 }}","{{.Other}} {{","{{model}}"],
        "stdin":"in: {{input.deep}}","env":{"MODE":"x"},"envSecrets":{"TOKEN":"deploy-token"}}"#;
    let mut task = task("command", &[("params", params)]);
    task.prompt = "{{model}} $(reboot) \"quoted\"\nsecond line".into();
    task.model = Some("max".into());
    task.secret_names = vec!["deploy-token".into()];
    let adapter = command();
    let plan = adapter.prepare(&task).await.unwrap();
    assert_eq!(plan.program, "tool");
    // What was put in is not searched again.
    let args =
        ["--file=alpha.ts", "{{model}} $(reboot) \"quoted\"\nsecond line", "20", "{{.Other}} {{", "max"];
    assert_eq!(plan.args, args);
    assert_eq!(plan.stdin, r#"in: {"n":[10,20]}"#);
    assert_eq!(plan.env["MODE"], "x");
    assert_eq!(plan.env_secrets["TOKEN"], "deploy-token");
    assert_eq!(plan.adapter, "command");
    assert_eq!(plan.adapter_digest, Some(adapter.digest()));
    assert!(plan.files.is_empty());
}

#[tokio::test]
async fn bad_params_are_named() {
    let (code, message) = fault("{}").await;
    assert_eq!(code, "bad-params");
    assert!(message.starts_with("/params/argv: missing"), "{message}");
    assert!(fault(r#"{"argv":[]}"#).await.1.starts_with("/params/argv: needs a program"));
    assert!(fault(r#"{"argv":["a",3]}"#).await.1.starts_with("/params/argv/1: must be a string"));
    assert!(fault(r#"{"argv":["a"],"args":[]}"#).await.1.starts_with("/params/args: unknown"));
    assert!(fault("[]").await.1.starts_with("/params: must be an object"));
    assert!(fault("{").await.1.starts_with("/params: not JSON"));
    let (code, message) = fault(r#"{"argv":["a","{{input.nope}}"]}"#).await;
    assert_eq!(code, "missing-input");
    assert!(message.contains("/params/argv/1") && message.contains("\"nope\""), "{message}");
    let (code, message) = fault(r#"{"argv":["a"],"envSecrets":{"K":"other"}}"#).await;
    assert_eq!(code, "refused");
    assert!(message.contains("secret \"other\""), "{message}");
    let (_, message) = fault(r#"{"argv":["a"],"env":{"LD_PRELOAD":"x"}}"#).await;
    assert!(message.contains("LD_PRELOAD"), "{message}");
}

#[tokio::test]
async fn everything_wrong_is_said_at_once_with_its_place() {
    let places = async |params: &str| {
        let error = command().prepare(&task("command", &[("params", params)])).await.unwrap_err();
        assert!(error.failure.is_certain(), "{error}");
        let found = error.failure.problems();
        assert!(found.iter().all(|it| !it.problem.is_empty()), "{found:?}");
        found.into_iter().map(|it| it.pointer).collect::<Vec<String>>()
    };
    let params = r#"{"argv":["sh","-c","x {{prompt}}",3],"a/b":1,"stdin":2,"env":{"A":1},"envSecrets":[]}"#;
    let all = [
        "/params/a~1b",
        "/params/stdin",
        "/params/argv/3",
        "/params/env/A",
        "/params/envSecrets",
        "/params/argv/2",
    ];
    assert_eq!(places(params).await, all);
    let params =
        r#"{"argv":["a","{{input.no}}","{{input.deep.no}}"],"stdin":"{{input.file}} {{input.no/t}}"}"#;
    assert_eq!(places(params).await, ["/input/no", "/input/deep/no", "/input/no~1t"]);
    // Parameters first: but what they need is said as well.
    assert_eq!(places(r#"{"argv":[4,"{{input.no}}"]}"#).await, ["/params/argv/0", "/input/no"]);
    let params = r#"{"argv":["./x"],"env":{"LD_PRELOAD":"y","OK":"z"},"envSecrets":{"K":"other"}}"#;
    assert_eq!(places(params).await, ["/params/argv/0", "/params/env/LD_PRELOAD", ""]);
}

#[tokio::test]
async fn a_placeholder_in_a_shell_script_is_refused() {
    for argv in [
        r#"["sh","-c","fix {{input.file}}"]"#,
        r#"["/bin/bash","-lc","fix {{input.file}}"]"#,
        r#"["env","A=b","sh","-ec","fix {{input.file}}"]"#,
    ] {
        assert_eq!(fault(&format!(r#"{{"argv":{argv}}}"#)).await.0, "placeholder-in-script", "{argv}");
    }
    let params = r#"{"argv":["sh","-c","fix \"$1\"","sh","{{input.file}}"]}"#;
    let plan = command().prepare(&task("command", &[("params", params)])).await.unwrap();
    assert_eq!(plan.args, ["-c", "fix \"$1\"", "sh", "alpha.ts"]);
}

#[tokio::test]
async fn the_host_checks_the_plan() {
    let params = r#"{"argv":["curl","x"]}"#;
    let mut restricted = task("command", &[("params", params)]);
    restricted.allowed_programs = Some(vec!["sh".into(), "cargo".into()]);
    let error = command().prepare(&restricted).await.unwrap_err();
    assert!(error.to_string().contains("only these programs are granted: sh, cargo"), "{error}");
    assert!(fault(r#"{"argv":["./relative/tool"]}"#).await.1.contains("absolute path"));

    let mut long = task("command", &[("params", r#"{"argv":["a","{{prompt}}"]}"#)]);
    long.prompt = "x".repeat(128 << 10);
    assert_eq!(command().prepare(&long).await.unwrap_err().code(), "output-limit");
    long.prompt = "a\0b".into();
    assert_eq!(command().prepare(&long).await.unwrap_err().code(), "refused");
    // The same text has room in standard input.
    long.prompt = "x".repeat(1 << 20);
    long.attrs.insert("params".into(), r#"{"argv":["a"],"stdin":"{{prompt}}"}"#.into());
    assert_eq!(command().prepare(&long).await.unwrap().stdin.len(), 1 << 20);
}

#[tokio::test]
async fn the_exit_decides_about_the_outcome() {
    let (adapter, task) = (command(), task("command", &[]));
    let report = adapter.read_transcript(&task, b"words\n", b"", exit(0)).await;
    assert_eq!((report.outcome.code, report.quality), (OutcomeCode::Completed, UsageQuality::Missing));
    assert_eq!((report.usage(), report.fault), (None, None));
    let report = adapter.read_transcript(&task, b"", b"first\nno such file\xff\n", exit(3)).await;
    assert_eq!(report.outcome.code, OutcomeCode::AgentFailed);
    assert_eq!(report.outcome.message, "exit code 3: first\nno such file\u{fffd}");
    let killed = ExitInfo { signal: Some(9), ..ExitInfo::default() };
    let report = adapter.read_transcript(&task, b"", b"", killed).await;
    assert_eq!(report.outcome.code, OutcomeCode::Killed);
    assert_eq!(report.outcome.message, "ended by signal 9");
    let late = ExitInfo { code: Some(143), timed_out: true, ..ExitInfo::default() };
    assert_eq!(
        adapter.read_transcript(&task, b"", b"", late).await.outcome.message,
        "stopped at its time limit"
    );
}

#[tokio::test]
async fn a_usage_line_is_taken_and_anything_like_it_is_not() {
    let out = concat!(
        "{\"pangolin\":\"other\",\"input\":9}\n",
        "{\"pangolin\":\"usage\",\"input\":1}\n",
        "text {\"pangolin\":\"usage\",\"input\":2}\n",
        "{\"pangolin\":\"usage\",\"input\":12,\"output\":3,\"turns\":2,\"cost_usd\":0.0123,\"model\":\"m-1\",",
        "\"session\":\"s\",\"output\":-4,\"quality\":\"exact\"}\r\n",
        "{\"pangolin\":\"usage\",\"output\":5,\"quality\":\"exact\"}",
    );
    let report = command().read_transcript(&task("command", &[]), out.as_bytes(), b"", exit(0)).await;
    assert_eq!(report.counters["input"], 12);
    assert_eq!(report.counters["output"], 5);
    assert_eq!(report.counters["turns"], 2);
    assert_eq!(report.cost_microusd, Some(12_300));
    assert_eq!(report.models, ["m-1"]);
    assert_eq!(report.session_id.as_deref(), Some("s"));
    assert_eq!(report.quality, UsageQuality::Exact);
}
