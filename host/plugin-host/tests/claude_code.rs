//! The `claude-code` adapter as the component that ships, against transcripts recorded from the real program.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::{fs, time::Duration};

use pangolin_core::entry::{FailureClass, UsageQuality};
use pangolin_plugin_host::{
    AdapterComponent, AdapterReport, AdapterTask, Channel, ExitInfo, Failure, Limits, OutcomeCode, attr,
};
use support::task;

const VERSION: &str = "2.1.329";

fn adapter() -> AdapterComponent {
    let limits = Limits { wall: Duration::from_secs(300), ..Limits::effect() };
    let component = pangolin_builtin_plugins::adapter("claude-code").unwrap();
    support::shared_host().load_adapter_with(component, limits).unwrap()
}

fn transcript(name: &str) -> Vec<u8> {
    let path = support::repository().join(format!("tests/fixtures/claude/{VERSION}/{name}.jsonl"));
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn exit(code: i32) -> ExitInfo {
    ExitInfo { code: Some(code), ..ExitInfo::default() }
}

async fn read(name: &str, code: i32) -> AdapterReport {
    adapter().read_transcript(&task("claude-code", &[]), &transcript(name), b"", exit(code)).await
}

/// `(input, cached_read, cache_write, output)`
fn tokens(report: &AdapterReport) -> [u64; 4] {
    ["input", "cached_read", "cache_write", "output"].map(|name| report.counters[name])
}

#[tokio::test]
async fn an_edit_is_completed_with_exact_usage() {
    let report = read("edit", 0).await;
    assert_eq!(report.fault, None);
    assert_eq!((report.outcome.code, report.outcome.message.as_str()), (OutcomeCode::Completed, ""));
    assert_eq!(report.session_id.as_deref(), Some("11111111-2222-4333-8444-555555555555"));
    assert_eq!(report.models, ["claude-sonnet-5-5"]);
    assert_eq!(tokens(&report), [2_000, 100, 600, 80]);
    assert_eq!(report.counters["turns"], 2);
    assert_eq!(report.cost_microusd, Some(6_310));
    assert_eq!(report.quality, UsageQuality::Exact);
    assert_eq!(report.claim, "Done.");
    assert!(report.denials.is_empty() && !report.events_truncated);
    let init = &report.events[0];
    assert_eq!((init.kind.as_str(), init.data["version"].as_str()), ("init", Some(VERSION)));
}

#[tokio::test]
async fn a_rejected_key_and_a_broken_provider_differ() {
    let auth = read("auth", 1).await;
    assert_eq!(auth.outcome.code, OutcomeCode::AuthError);
    assert!(auth.outcome.message.contains("HTTP 401"), "{}", auth.outcome.message);
    assert_eq!(auth.outcome.code.failure_class(), Some(FailureClass::Refusal));
    let keyless = read("no-key", 1).await;
    assert_eq!(keyless.outcome.code, OutcomeCode::AuthError);
    assert_eq!(keyless.outcome.message, "no usable key: Not logged in · Please run /login");
    let overloaded = read("5xx", 1).await;
    assert_eq!(overloaded.outcome.code, OutcomeCode::ProviderError);
    assert!(overloaded.outcome.message.contains("HTTP 529"), "{}", overloaded.outcome.message);
    assert_eq!(overloaded.outcome.code.failure_class(), Some(FailureClass::Infrastructure));
    assert_eq!(overloaded.counters["provider_retries"], 1);
    assert_eq!((tokens(&overloaded), overloaded.cost_microusd), ([0; 4], Some(0)));
    // The program's own error message is no model's work.
    assert!(overloaded.models.is_empty());
}

#[tokio::test]
async fn caps_are_caps() {
    let turns = read("turn-cap", 1).await;
    assert_eq!(turns.outcome.code, OutcomeCode::TurnCap);
    assert_eq!(turns.outcome.message, "turn limit reached: Reached maximum number of turns (2)");
    assert_eq!((tokens(&turns), turns.quality), ([2_000, 100, 600, 80], UsageQuality::Exact));
    let money = read("money-cap", 1).await;
    assert_eq!(money.outcome.code, OutcomeCode::MoneyCap);
    // `usage` of this event leaves the last call out; the sum by model does not.
    assert_eq!((tokens(&money), money.cost_microusd), ([2_000, 100, 600, 80], Some(6_310)));
}

#[tokio::test]
async fn a_refused_tool_is_seen_although_everything_says_success() {
    let report = read("denied", 0).await;
    assert_eq!(report.outcome.code, OutcomeCode::Denied);
    assert_eq!(report.outcome.message, "1 refused tool call(s): Bash");
    assert_eq!(report.denials.len(), 1);
    assert_eq!(report.denials[0].subject, "Bash");
    assert_eq!(report.denials[0].detail["input"]["command"], "printf '%s\\n' 'hi there' >> 'hello.txt'");
    let declined = read("model-refusal", 1).await;
    assert_eq!(declined.outcome.code, OutcomeCode::Denied);
    assert!(declined.outcome.message.contains("declined"), "{}", declined.outcome.message);
}

#[tokio::test]
async fn a_killed_session_has_a_partial_number() {
    let report = read("killed-mid", 143).await;
    assert_eq!(report.outcome.code, OutcomeCode::Killed);
    assert_eq!(report.quality, UsageQuality::Partial);
    assert_eq!(report.cost_microusd, None);
    let messages = report.counters["turns"];
    assert!(messages >= 1);
    assert_eq!(tokens(&report), [1_000, 50, 300, 1].map(|each| each * messages));
    let early = read("killed", 143).await;
    assert_eq!((early.outcome.code, early.quality), (OutcomeCode::Killed, UsageQuality::Missing));
    assert_eq!(early.usage(), None);
    assert!(early.session_id.is_some());
}

#[tokio::test]
async fn a_session_without_events_is_unknown_with_the_words_of_stderr() {
    let task = task("claude-code", &[]);
    let words =
        b"--dangerously-skip-permissions cannot be used with root/sudo privileges for security reasons\n";
    let report = adapter().read_transcript(&task, b"", words, exit(1)).await;
    assert_eq!(report.outcome.code, OutcomeCode::Unknown);
    assert!(report.outcome.message.ends_with("security reasons"), "{}", report.outcome.message);
    assert_eq!(report.fault, None);
}

/// Every recorded transcript byte by byte, which ends a chunk at every place, and cut in two: one of them at every
/// byte, the others at every thirteenth (each cut is a whole call).
#[tokio::test]
async fn where_chunks_end_makes_no_difference() {
    let (adapter, task) = (adapter(), task("claude-code", &[]));
    for (name, code) in [
        ("edit", 0),
        ("auth", 1),
        ("no-key", 1),
        ("5xx", 1),
        ("turn-cap", 1),
        ("money-cap", 1),
        ("denied", 0),
        ("model-refusal", 1),
        ("killed", 143),
        ("killed-mid", 143),
    ] {
        let bytes = transcript(name);
        let whole = adapter.read_transcript(&task, &bytes, b"", exit(code)).await;
        let single = bytes.chunks(1).map(|chunk| (Channel::Out, chunk));
        assert_eq!(adapter.read_chunks(&task, single, exit(code)).await, whole, "{name} byte by byte");
        for at in (0..bytes.len()).step_by(if name == "denied" { 1 } else { 13 }) {
            let (head, tail) = bytes.split_at(at);
            // The other channel in between must not matter either.
            let chunks = [(Channel::Out, head), (Channel::Err, &b""[..]), (Channel::Out, tail)];
            assert_eq!(adapter.read_chunks(&task, chunks, exit(code)).await, whole, "{name} cut at {at}");
        }
    }
}

#[tokio::test]
async fn a_stream_cut_anywhere_never_fails_and_never_claims_exact_numbers() {
    let (adapter, task) = (adapter(), task("claude-code", &[]));
    let bytes = transcript("edit");
    // Without its line end the last line is still whole.
    for at in 0..bytes.len() - 1 {
        let cut = ExitInfo { truncated: true, ..exit(0) };
        let report = adapter.read_transcript(&task, &bytes[..at], b"", cut).await;
        assert_eq!(report.fault, None, "cut at {at}");
        assert_ne!(report.outcome.code, OutcomeCode::Completed, "cut at {at}");
        assert_ne!(report.quality, UsageQuality::Exact, "cut at {at}");
    }
}

#[tokio::test]
async fn rubbish_between_the_lines_is_counted_and_survived() {
    let (adapter, task) = (adapter(), task("claude-code", &[]));
    let clean = adapter.read_transcript(&task, &transcript("edit"), b"", exit(0)).await;
    let mut dirty = Vec::new();
    let huge = format!("{{\"type\":\"user\",\"x\":[{}0]}}", "0,".repeat(2 << 20));
    let too_long = "x".repeat(7 << 20);
    let rubbish: [&[u8]; 9] = [
        b"\xff\xfe\x00 not text",
        b"{\"type\":\"result\",\"is_error\":tr",
        b"[1,2]",
        b"{\"type\":7,\"message\":[],\"session_id\":{}}",
        b"{\"type\":\"assistant\",\"message\":{\"usage\":{\"input_tokens\":-5}}}",
        b"{\"type\":\"assistant\",\"message\":\"text\"}",
        "[".repeat(100_000).leak().as_bytes(),
        huge.leak().as_bytes(),
        too_long.leak().as_bytes(),
    ];
    for (index, line) in transcript("edit").split_inclusive(|byte| *byte == b'\n').enumerate() {
        for piece in rubbish.iter().skip(index).step_by(2) {
            dirty.extend_from_slice(piece);
            dirty.push(b'\n');
        }
        dirty.extend_from_slice(line);
    }
    let report = adapter.read_transcript(&task, &dirty, b"", exit(0)).await;
    assert_eq!(report.fault, None);
    assert_eq!(report.counters, clean.counters);
    assert_eq!((&report.outcome, report.quality), (&clean.outcome, clean.quality));
    let note = report.events.iter().find(|event| event.kind == "not-understood").unwrap();
    assert!(note.data["lines"].as_u64().unwrap() >= 8, "{note:?}");
}

#[tokio::test]
async fn usage_of_one_message_counts_once() {
    let message = |id: &str, output: u32| {
        format!(
            "{{\"type\":\"assistant\",\"message\":{{\"id\":\"{id}\",\"model\":\"m\",\"content\":[],\
             \"usage\":{{\"input_tokens\":10,\"output_tokens\":{output}}}}}}}\n"
        )
    };
    // One message in three events, another one interleaved; then many.
    let mut stream = [message("a", 1), message("b", 5), message("a", 3), message("a", 2)].concat();
    let report =
        adapter().read_transcript(&task("claude-code", &[]), stream.as_bytes(), b"", exit(143)).await;
    assert_eq!((report.counters["input"], report.counters["output"], report.counters["turns"]), (20, 8, 2));
    stream.extend((0..500).map(|n| message(&format!("n{n}"), 1)));
    let report =
        adapter().read_transcript(&task("claude-code", &[]), stream.as_bytes(), b"", exit(143)).await;
    assert_eq!((report.counters["input"], report.counters["output"]), (5_020, 508));
}

#[tokio::test]
async fn an_adapter_that_fails_leaves_no_numbers() {
    let limits = Limits { memory_bytes: 2 << 20, ..Limits::effect() };
    let component = pangolin_builtin_plugins::adapter("claude-code").unwrap();
    let adapter = support::shared_host().load_adapter_with(component, limits).unwrap();
    let mut bytes = transcript("edit");
    bytes.extend("y".repeat(4 << 20).bytes());
    let report = adapter.read_transcript(&task("claude-code", &[]), &bytes, b"", exit(0)).await;
    let fault = report.fault.unwrap();
    assert!(matches!(fault.failure, Failure::MemoryLimit { limit: 2_097_152, .. }), "{fault}");
    assert_eq!(report.quality, UsageQuality::Missing);
    assert_eq!((report.counters.len(), report.cost_microusd), (0, None));
    assert_eq!(report.outcome.code, OutcomeCode::Unknown);
    // What had been understood before is kept.
    assert!(report.session_id.is_some());
}

fn full_task() -> AdapterTask {
    let mut task = task(
        "claude-code",
        &[
            (attr::PARAMS, r#"{"maxTurns":9,"baseUrl":"http://127.0.0.1:1","bare":true,"maxRetries":0}"#),
            (attr::MAX_TURNS, "4"),
            (attr::BUDGET_USD, "0.25"),
            (attr::SESSION_ID, "11111111-2222-4333-8444-555555555555"),
            (attr::PRIVATE_HOME, "/private/home/"),
            (attr::ROOT, "true"),
        ],
    );
    task.prompt = "--help me\nplease".into();
    task.system_prompt = Some("--you fix".into());
    task.model = Some("standard".into());
    task.secret_names = vec!["ANTHROPIC_API_KEY".into(), "OTHER".into()];
    task
}

#[tokio::test]
async fn the_command_line_is_the_observed_one() {
    let plan = adapter().prepare(&full_task()).await.unwrap();
    assert_eq!(plan.program, "claude");
    let args = [
        "-p",
        "--output-format",
        "stream-json",
        "--verbose",
        "--setting-sources",
        "",
        "--strict-mcp-config",
        "--bare",
        "--permission-mode",
        "bypassPermissions",
        "--model=sonnet",
        "--max-turns=4",
        "--max-budget-usd=0.25",
        "--session-id=11111111-2222-4333-8444-555555555555",
        "--append-system-prompt=--you fix",
    ];
    assert_eq!(plan.args, args);
    assert_eq!(plan.stdin, "--help me\nplease");
    assert_eq!(plan.env["CLAUDE_CONFIG_DIR"], "/private/home/.claude");
    assert_eq!(plan.env["ANTHROPIC_BASE_URL"], "http://127.0.0.1:1");
    assert_eq!(plan.env["CLAUDE_CODE_MAX_RETRIES"], "0");
    assert_eq!(plan.env["IS_SANDBOX"], "1");
    for name in [
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC",
        "DISABLE_TELEMETRY",
        "DISABLE_AUTOUPDATER",
        "DISABLE_ERROR_REPORTING",
    ] {
        assert_eq!(plan.env[name], "1");
    }
    assert_eq!(
        plan.env_secrets.iter().collect::<Vec<_>>(),
        [(&"ANTHROPIC_API_KEY".into(), &"ANTHROPIC_API_KEY".into())]
    );

    let mut strict = full_task();
    strict.attrs.insert(attr::PERMISSION.into(), "strict".into());
    strict.model = Some("claude-own-7".into());
    let plan = adapter().prepare(&strict).await.unwrap();
    assert!(!plan.args.iter().any(|arg| arg.contains("ermission")), "{:?}", plan.args);
    assert!(plan.args.contains(&"--model=claude-own-7".into()));
    assert!(!plan.env.contains_key("IS_SANDBOX"));
}

#[tokio::test]
async fn what_cannot_be_started_is_said_before() {
    let adapter = adapter();
    let fault = async |key: &str, value: &str| {
        let mut task = full_task();
        task.attrs.insert(key.into(), value.into());
        match adapter.prepare(&task).await.unwrap_err().failure {
            Failure::Fault { message, .. } => message,
            other => panic!("{other:?}"),
        }
    };
    assert!(fault(attr::PERMISSION, "yolo").await.contains("neither bypass nor strict"));
    assert!(fault(attr::SESSION_ID, "../x").await.contains("not a UUID"));
    assert!(fault(attr::MAX_TURNS, "0").await.contains("at least 1"));
    assert!(fault(attr::BUDGET_USD, "-1").await.contains("above 0"));
    assert!(fault(attr::KEY_SECRET, "NOT_OFFERED").await.contains("not offered"));
    assert!(fault(attr::PARAMS, r#"{"maxTurn":1}"#).await.starts_with("/params/maxTurn: unknown"));
    let empty = AdapterTask { prompt: " \n".into(), ..full_task() };
    assert!(adapter.prepare(&empty).await.unwrap_err().to_string().contains("nothing to tell the agent"));
}
