//! The service with a function that does what it is told, also what it must not.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use pangolin_lambda_fake::{Function, Kill, LambdaError, LambdaFake, Outcome};
use serde_json::{Value, json};

const PROBE: &str = env!("CARGO_BIN_EXE_pangolin-lambda-probe");

/// A service with the probe.
fn service(change: impl FnOnce(&mut Function)) -> LambdaFake {
    let service = LambdaFake::start().expect("a service");
    let mut function = Function::new("probe", PROBE);
    function.timeout = Duration::from_secs(30);
    change(&mut function);
    service.function(function).expect("a good function");
    service
}

async fn told(service: &LambdaFake, what: &Value) -> Outcome {
    service.invoke("probe", what.to_string()).await.expect("invoked").outcome
}

fn text(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Answered(bytes) => std::str::from_utf8(bytes).expect("text"),
        other => panic!("no answer: {other:?}"),
    }
}

/// Waits until something is so, for a minute.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::yield_now();
    }
}

fn state_of(pid: u64) -> Option<char> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    text.rsplit_once(") ")?.1.chars().next()
}

#[tokio::test]
async fn an_environment_is_as_lambda_makes_it_and_stays() {
    let service = service(|function| {
        function.env.insert("OWN".to_owned(), "mine".to_owned());
        function.memory_mb = 256;
    });
    let first = service.invoke("probe", "{}").await.expect("invoked");
    let init = first.init.expect("a cold start");
    assert!(
        init.duration > Duration::ZERO && init.peak_rss > 100_000 && init.cpu > Duration::ZERO,
        "{init:?}"
    );
    let answer: Value = serde_json::from_str(first.answer()).expect("JSON");
    let env = &answer["env"];
    let root = Path::new(PROBE).parent().expect("a directory").display().to_string();
    assert_eq!(env["LAMBDA_TASK_ROOT"], json!(root));
    assert_eq!(answer["cwd"], json!(root));
    assert_eq!(env["OWN"], "mine");
    assert_eq!(env["AWS_LAMBDA_FUNCTION_NAME"], "probe");
    assert_eq!(env["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"], "256");
    assert_eq!(env["_HANDLER"], "bootstrap");
    assert_eq!(env.get("HOME"), None, "nothing of the caller's");
    let tmp = env["TMPDIR"].as_str().expect("a directory of its own").to_owned();
    assert!(Path::new(&tmp).is_dir());
    let headers = &answer["headers"];
    assert_eq!(headers["lambda-runtime-aws-request-id"], json!(first.request_id));
    assert_eq!(
        headers["lambda-runtime-invoked-function-arn"],
        "arn:aws:lambda:us-east-1:000000000000:function:probe"
    );
    assert!(headers["lambda-runtime-trace-id"].as_str().is_some_and(|id| id.starts_with("Root=1-00000000-")));
    let deadline: u128 =
        headers["lambda-runtime-deadline-ms"].as_str().expect("a time").parse().expect("a number");
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_millis();
    assert!((now..=now + 30_000).contains(&deadline), "{deadline} at {now}");

    let pid = answer["pid"].as_u64().expect("a number");
    until("it is frozen between events", || state_of(pid) == Some('T'));
    let second = service.invoke("probe", "{}").await.expect("invoked");
    assert_eq!((second.init, second.environment), (None, first.environment));
    let answer: Value = serde_json::from_str(second.answer()).expect("JSON");
    assert_eq!(answer["pid"], json!(pid));
    assert_ne!(second.request_id, first.request_id);
    assert_eq!(service.violations(), Vec::<String>::new());
    drop(service);
    until("it ends with the service", || state_of(pid).is_none_or(|state| state == 'Z'));
    assert!(!Path::new(&tmp).exists());
}

#[tokio::test]
async fn what_runtimes_must_not_do_is_refused_and_written_down() {
    let service = service(|_| {});
    let check = |outcome: &Outcome, answer: &str, violation: &str| {
        assert_eq!(text(outcome), answer);
        let violations = service.violations();
        let last = violations.last().map(String::as_str).unwrap_or_default();
        assert!(last.contains(violation), "{violations:?}");
    };
    check(&told(&service, &json!({ "do": "twice" })).await, "1", "twice");
    until("the log is there", || service.logs("probe").contains("second answer: 400"));
    check(&told(&service, &json!({ "do": "stranger" })).await, "400", "which is no request");
    check(&told(&service, &json!({ "do": "early" })).await, "403", "polled again");
    check(&told(&service, &json!({ "do": "nowhere" })).await, "404", "called POST");
    assert_eq!(service.violations().len(), 4);

    let limit = 6_291_556;
    assert_eq!(text(&told(&service, &json!({ "do": "large", "bytes": limit })).await).len(), limit);
    let outcome = told(&service, &json!({ "do": "large", "bytes": limit + 1 })).await;
    assert!(
        matches!(&outcome, Outcome::Failed { error_type, .. } if error_type == "Function.ResponseSizeTooLarge"),
        "{outcome:?}"
    );
    assert!(service.logs("probe").contains("large answer: 413"), "{}", service.logs("probe"));
    // All of it in one environment: none of these ends it.
    assert!(service.invocations("probe").expect("known").iter().all(|one| one.environment == 1));
}

#[tokio::test]
async fn what_callers_must_not_do_is_refused() {
    let service = service(|_| {});
    let large = |bytes: usize| format!("\"{}\"", "x".repeat(bytes - 2));
    assert!(matches!(service.invoke("nobody", "{}").await, Err(LambdaError::NotFound(_))));
    assert!(matches!(service.invoke("probe", "{").await, Err(LambdaError::NotJson(_))));
    assert!(matches!(service.invoke("probe", "").await, Err(LambdaError::NotJson(_))));
    let sync = 6 * 1_024 * 1_024;
    assert!(matches!(
        service.invoke("probe", large(sync + 1)).await,
        Err(LambdaError::TooLarge { limit, .. }) if limit == sync
    ));
    let event = 1_024 * 1_024;
    assert!(matches!(
        service.invoke_event("probe", large(event + 1)).await,
        Err(LambdaError::TooLarge { limit, .. }) if limit == event
    ));
    assert!(service.invoke_event("probe", large(event)).await.expect("just fits").is_success());

    let mut function = Function::new("a b", "/nowhere/bootstrap").env("AWS_REGION", "eu-central-1");
    function = function.env("LARGE", &"x".repeat(4_096));
    function.timeout = Duration::from_secs(901);
    function.retries = 3;
    function.concurrency = 0;
    match service.function(function) {
        Err(LambdaError::Function { findings, .. }) => assert_eq!(findings.len(), 7, "{findings:#?}"),
        other => panic!("it was taken: {other:?}"),
    }
}

#[tokio::test]
async fn errors_and_ends_are_told_apart() {
    let service = service(|function| function.timeout = Duration::from_secs(3));
    let failed = |error_type: &str, message: &str| Outcome::Failed {
        error_type: error_type.to_owned(),
        message: message.to_owned(),
    };
    let first = service.invoke("probe", r#"{"do":"error"}"#).await.expect("invoked");
    assert_eq!(first.outcome, failed("Probe.Error", "as told"));
    let exit = service.invoke("probe", r#"{"do":"exit"}"#).await.expect("invoked");
    assert_eq!(exit.outcome, Outcome::Exited("Runtime.ExitError: exit status: 3".to_owned()));
    assert_eq!(exit.environment, first.environment);

    let hang = service.invoke("probe", r#"{"do":"hang"}"#).await.expect("invoked");
    assert_eq!(hang.outcome, Outcome::TimedOut);
    assert!(hang.duration >= Duration::from_secs(3), "{hang:?}");
    assert!(hang.init.is_some() && hang.peak_rss > 0, "{hang:?}");
    let logs = service.logs("probe");
    let child =
        logs.lines().find_map(|line| line.strip_prefix("child ")?.parse().ok()).expect("it began a child");
    until("its child ended too", || state_of(child).is_none_or(|state| state == 'Z'));

    let after = service.invoke("probe", "{}").await.expect("invoked");
    assert!(after.is_success() && after.init.is_some(), "{after:?}");
}

#[tokio::test]
async fn environments_that_do_not_come_up() {
    let init = |what: &str| {
        let what = what.to_owned();
        service(move |function| {
            function.env.insert("PROBE_INIT".to_owned(), what);
        })
    };
    let outcome = told(&init("error"), &json!({})).await;
    assert_eq!(outcome, Outcome::NotStarted("Probe.Init: not today".to_owned()));
    let outcome = told(&init("exit"), &json!({})).await;
    assert_eq!(outcome, Outcome::NotStarted("Runtime.ExitError: exit status: 7".to_owned()));
}

#[tokio::test]
async fn busy_environments_make_new_ones_up_to_the_limit() {
    let service = service(|function| function.concurrency = 2);
    let work = || service.invoke("probe", r#"{"do":"work","ms":300,"mib":1}"#);
    let (first, second, third) = tokio::join!(work(), work(), work());
    let (first, second) = (first.expect("invoked"), second.expect("invoked"));
    assert_ne!(first.environment, second.environment);
    assert!(matches!(third, Err(LambdaError::Throttled { concurrency: 2, .. })), "{third:?}");
    // Events wait instead.
    let event = || service.invoke_event("probe", "{}");
    let (first, second, third) = tokio::join!(event(), event(), event());
    assert!([first, second, third].into_iter().all(|delivery| delivery.expect("handed over").is_success()));
    let all = service.invocations("probe").expect("known");
    assert_eq!(all.iter().filter(|invocation| invocation.init.is_some()).count(), 2, "{all:?}");
}

#[tokio::test]
async fn processor_and_memory_are_measured_per_invocation() {
    let service = service(|_| {});
    let work = |what: Value| service.invoke("probe", what.to_string());
    let small = work(json!({})).await.expect("invoked");
    let large = work(json!({ "do": "work", "ms": 200, "mib": 64 })).await.expect("invoked");
    let again = work(json!({})).await.expect("invoked");
    let mib = 1_024 * 1_024;
    assert!(small.peak_rss < 32 * mib, "{small:?}");
    assert!(large.peak_rss > 64 * mib && large.peak_rss < 128 * mib, "{large:?}");
    assert!(again.peak_rss < 32 * mib, "the peak of the one before is not its own: {again:?}");
    assert!(large.cpu >= Duration::from_millis(190) && large.cpu <= large.duration, "{large:?}");
    assert!(again.cpu < Duration::from_millis(100), "{again:?}");
}

#[tokio::test]
async fn events_are_repeated_and_become_dead_letters() {
    let service = service(|_| {});
    let delivery = service.invoke_event("probe", r#"{"do":"error"}"#).await.expect("handed over");
    assert_eq!(delivery.attempts.len(), 3);
    assert!(!delivery.is_success());
    let ids: Vec<_> = delivery.attempts.iter().map(|attempt| attempt.request_id.as_str()).collect();
    assert_eq!(ids, [ids[0]; 3], "a repeated event keeps its id");
    let letters = service.dead_letters("probe").expect("known");
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0]["requestContext"]["condition"], "RetriesExhausted");
    assert_eq!(letters[0]["requestContext"]["approximateInvokeCount"], 3);
    assert_eq!(letters[0]["requestPayload"], json!({ "do": "error" }));
    assert_eq!(letters[0]["responsePayload"]["errorType"], "Probe.Error");
}

#[tokio::test]
async fn deaths_come_in_order_and_a_repetition_succeeds() {
    let service = service(|_| {});
    for kill in [Kill::AtInvocation, Kill::AtResponse] {
        service.kill_next("probe", kill).expect("known");
    }
    let delivery = service.invoke_event("probe", r#"{"do":"work","ms":1}"#).await.expect("handed over");
    let outcomes: Vec<_> = delivery.attempts.iter().map(|attempt| &attempt.outcome).collect();
    assert_eq!(outcomes[..2], [&Outcome::Killed, &Outcome::Killed]);
    assert!(delivery.is_success() && delivery.attempts.len() == 3, "{delivery:?}");
    let environments: Vec<_> = delivery.attempts.iter().map(|attempt| attempt.environment).collect();
    assert!(
        environments.is_sorted() && environments[0] != environments[1] && environments[1] != environments[2]
    );

    service.kill_next("probe", Kill::AfterMillis(20)).expect("known");
    let killed = service.invoke("probe", r#"{"do":"hang"}"#).await.expect("invoked");
    assert_eq!(killed.outcome, Outcome::Killed);
    assert!(killed.duration < Duration::from_secs(30), "{killed:?}");
}

#[tokio::test]
async fn the_clock_hands_over_what_is_scheduled() {
    let service = service(|function| function.retries = 0);
    service.schedule("probe", r#"{"doorbell":"schedule"}"#);
    for _ in 0..2 {
        let deliveries = service.tick_clock().await.expect("ticked");
        assert_eq!(deliveries.len(), 1);
        let answer: Value = serde_json::from_str(deliveries[0].attempts[0].answer()).expect("JSON");
        assert_eq!(answer["event"], json!({ "doorbell": "schedule" }));
    }
    service.kill_next("probe", Kill::AtInvocation).expect("known");
    let deliveries = service.tick_clock().await.expect("ticked");
    assert_eq!(deliveries[0].attempts.len(), 1, "a tick is not repeated");
}
