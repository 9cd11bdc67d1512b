//! Plans: everything wrong is found at once, with its place, and hostile bytes do no harm.

mod common;

use std::{collections::BTreeSet, time::Instant};

use pangolin_core::validate::{Finding, PlanContext, Severity, parse_items, parse_plan};
use serde_json::{Value, json};

fn context() -> PlanContext {
    let set = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>());
    PlanContext {
        queues: set(&["default", "slow"]),
        executors: set(&["dispatch", "approve"]),
        items_max: 100,
        shapes: set(&["code-edit", "review"]),
    }
}

fn base() -> Value {
    json!({"id": "r", "queue": "default", "items": [
        {"id": "alpha", "executor": "dispatch", "inputs": {}, "depends_on": [], "resourceLocks": []},
        {"id": "beta", "executor": "dispatch", "inputs": {}, "depends_on": [], "resourceLocks": []},
    ]})
}

/// The findings of a plan as `code@pointer`, errors and warnings.
fn findings_of(plan: &Value) -> Vec<Finding> {
    let bytes = serde_json::to_vec(plan).expect("json");
    parse_plan(&bytes, &context()).map_or_else(|findings| findings, |parsed| parsed.warnings)
}

/// Puts `value` at `pointer` of the base plan (JSON null removes the key) and expects exactly these findings.
#[track_caller]
fn check(pointer: &str, value: Value, expected: &[&str]) -> Vec<Finding> {
    let mut plan = base();
    let (parent, key) = pointer.rsplit_once('/').expect("pointer");
    match plan.pointer_mut(parent).expect("parent") {
        Value::Object(map) if value == json!("REMOVE") => {
            map.remove(key).expect("present");
        }
        Value::Object(map) => {
            map.insert(key.to_owned(), value);
        }
        other => panic!("{other}"),
    }
    let found = findings_of(&plan);
    let short: Vec<String> =
        found.iter().map(|finding| format!("{}@{}", finding.code, finding.pointer)).collect();
    assert_eq!(short, expected, "{pointer}: {found:#?}");
    found
}

#[test]
fn a_sound_plan_has_no_findings_and_is_normalised() {
    let brief = json!({"id": "fanout-1", "queue": "default", "items": [
        {"id": "edit", "executor": "dispatch", "inputs": {"subagent": "code-edit", "workerInput": {"file": "a.ts"}},
         "depends_on": [], "resourceLocks": ["fixture/a.ts"]},
        {"id": "other", "executor": "dispatch", "inputs": {"env": ["ci"], "capabilities": ["x"]},
         "depends_on": [], "resourceLocks": []},
        {"id": "verify", "executor": "dispatch", "inputs": {"env": "ci"}, "depends_on": ["edit", "edit"],
         "resourceLocks": [], "subagentShape": "review", "maxAttempts": 100, "timeoutSeconds": 1, "priority": -3,
         "image": "alpine:3", "model": "fast", "budgetUsd": 0, "env": {"A_1": "x", "_b": ""},
         "needs": {"a.patch": {"from": "edit", "select": {"kind": "patch"}},
                   "data/report.json": {"from": "other", "select": {"kind": "output", "path": "report.json"}}}},
    ], "openEnded": true});
    let bytes = serde_json::to_vec(&brief).expect("json");
    let parsed = parse_plan(&bytes, &context()).expect("sound");
    assert_eq!(parsed.warnings, []);
    assert!(parsed.plan.open_ended);
    let verify = &parsed.plan.items[2];
    let deps: Vec<&str> = verify.depends_on.iter().map(|id| id.as_str()).collect();
    assert_eq!(deps, ["edit", "other"]);
    assert_eq!((verify.max_attempts, verify.priority, verify.budget_usd), (Some(100), Some(-3), Some(0.0)));
    // What was parsed survives its own serialisation.
    let again = serde_json::to_vec(&parsed.plan).expect("json");
    assert_eq!(parse_plan(&again, &context()).expect("sound").plan, parsed.plan);
}

#[test]
fn every_field_is_checked() {
    for field in ["id", "queue", "items"] {
        check(&format!("/{field}"), json!("REMOVE"), &["missing-field@"]);
        check(&format!("/{field}"), json!(7), &[&format!("wrong-type@/{field}")]);
    }
    for field in ["id", "executor", "inputs", "depends_on", "resourceLocks"] {
        check(&format!("/items/0/{field}"), json!("REMOVE"), &["missing-field@/items/0"]);
        check(&format!("/items/0/{field}"), json!(7), &[&format!("wrong-type@/items/0/{field}")]);
    }
    for field in ["subagentShape", "needs", "image", "model", "env"] {
        check(&format!("/items/0/{field}"), json!(true), &[&format!("wrong-type@/items/0/{field}")]);
        check(&format!("/items/0/{field}"), json!(null), &[&format!("wrong-type@/items/0/{field}")]);
    }
    for field in ["maxAttempts", "timeoutSeconds", "priority", "budgetUsd"] {
        check(&format!("/items/0/{field}"), json!("2"), &[&format!("wrong-type@/items/0/{field}")]);
    }
    let out_of_range = [
        ("maxAttempts", json!(0)),
        ("maxAttempts", json!(101)),
        ("maxAttempts", json!(1.5)),
        ("maxAttempts", json!(-1)),
        ("timeoutSeconds", json!(0)),
        ("timeoutSeconds", json!(4_294_967_296_u64)),
        ("priority", json!(2_147_483_648_u64)),
        ("priority", json!(u64::MAX)),
        ("budgetUsd", json!(-0.01)),
    ];
    for (field, value) in out_of_range {
        check(&format!("/items/0/{field}"), value, &[&format!("out-of-range@/items/0/{field}")]);
    }
    check("/openEnded", json!("yes"), &["wrong-type@/openEnded"]);
    check("/items", json!([]), &["empty-plan@/items"]);
    check("/items", json!([3]), &["wrong-type@/items/0"]);
    for bad in ["", "a/b", "..", "a..b", "-x", "a\u{1f}b", &"x".repeat(129)] {
        check("/id", json!(bad), &["bad-id@/id"]);
        check("/items/0/id", json!(bad), &["bad-id@/items/0/id"]);
    }
    check("/items/0/executor", json!(" "), &["bad-name@/items/0/executor"]);
    check("/items/0/resourceLocks", json!([""]), &["bad-name@/items/0/resourceLocks/0"]);
    check("/items/0/resourceLocks", json!(["k", "l", "k"]), &["duplicate-lock@/items/0/resourceLocks/2"]);
    check("/items/0/resourceLocks", json!([1]), &["wrong-type@/items/0/resourceLocks/0"]);
    check("/items/0/depends_on", json!([null]), &["wrong-type@/items/0/depends_on/0"]);
    check("/items/0/env", json!({"1A": "x"}), &["bad-env-name@/items/0/env/1A"]);
    check("/items/0/env", json!({"": "x"}), &["bad-env-name@/items/0/env/"]);
    check("/items/0/env", json!({"A": 1}), &["wrong-type@/items/0/env/A"]);
    check("/items/0/env", json!({"A": "a\u{0}b"}), &["bad-env-value@/items/0/env/A"]);
}

#[test]
fn reserved_inputs_are_checked() {
    let both = json!({"capabilities": ["a"], "addCapabilities": ["b"]});
    check("/items/0/inputs", both, &["contradiction@/items/0/inputs/addCapabilities"]);
    let cases = [
        ("env", json!(1)),
        ("env", json!(["a", 1])),
        ("env", json!({})),
        ("capabilities", json!("a")),
        ("subagent", json!("")),
        ("pipeline", json!([])),
        ("workerInput", json!("text")),
    ];
    for (key, value) in cases {
        check(&format!("/items/0/inputs/{key}"), value, &[&format!("wrong-type@/items/0/inputs/{key}")]);
    }
    // Other keys have no effect: one that slipped could silently drop a gate.
    let other = check("/items/0/inputs/anything", json!([1]), &["unknown-input@/items/0/inputs/anything"]);
    assert_eq!(other[0].severity, Severity::Warning);
    let slip = check("/items/0/inputs/pipline", json!("p.q"), &["unknown-input@/items/0/inputs/pipline"]);
    assert_eq!(slip[0].hint.as_deref(), Some("did you mean \"pipeline\"?"));
}

#[test]
fn names_that_are_not_known_come_with_a_hint() {
    let hint = |pointer: &str, value: Value, expected: &str| {
        let found = check(pointer, value, &[expected]);
        found[0].hint.clone().unwrap_or_default()
    };
    assert_eq!(hint("/queue", json!("defualt"), "unknown-queue@/queue"), "did you mean \"default\"?");
    assert_eq!(hint("/queue", json!("zzz"), "unknown-queue@/queue"), "configured queues: default, slow");
    let executor = "unknown-executor@/items/1/executor";
    assert_eq!(hint("/items/1/executor", json!("Dispatch"), executor), "did you mean \"dispatch\"?");
    let shape = "unknown-shape@/items/0/subagentShape";
    assert_eq!(hint("/items/0/subagentShape", json!("reveiw"), shape), "did you mean \"review\"?");
    let item = "unknown-item@/items/1/depends_on/0";
    assert_eq!(hint("/items/1/depends_on", json!(["alhpa"]), item), "did you mean \"alpha\"?");
    let field = "unknown-field@/items/0/dependsOn";
    assert_eq!(hint("/items/0/dependsOn", json!([]), field), "did you mean \"depends_on\"?");
    let found = check("/trigger", json!("manual"), &["unknown-field@/trigger"]);
    assert_eq!(found[0].severity, Severity::Warning);
    check("/items/0/a~1b", json!(1), &["unknown-field@/items/0/a~01b"]);
}

#[test]
fn hand_offs_are_checked() {
    let need = |key: &str| json!({key: {"from": "alpha", "select": {"kind": "patch"}}});
    for bad in ["/abs", "a\\b", "../x", "a/../b", "a//b", "a/", "", "./a", "a\nb"] {
        let expected = format!("unsafe-key@/items/1/needs/{}", bad.replace('/', "~1"));
        check("/items/1/needs", need(bad), &[&expected]);
    }
    check("/items/1/needs", need("deps/x.patch"), &["reserved-key@/items/1/needs/deps~1x.patch"]);
    check("/items/1/needs", need("ok/fine.json"), &[]);
    let two = json!({"a": {"from": "alpha", "select": {"kind": "patch"}},
                     "a/b": {"from": "alpha", "select": {"kind": "patch"}}});
    check("/items/1/needs", two, &["conflicting-key@/items/1/needs/a~1b"]);
    for bad in ["/etc/passwd", "..", "a/../../b", "a\\b", ""] {
        let value = json!({"k": {"from": "alpha", "select": {"kind": "output", "path": bad}}});
        check("/items/1/needs", value, &["unsafe-path@/items/1/needs/k/select/path"]);
    }
    let cases = [
        (json!({"k": {"from": "gamma", "select": {"kind": "patch"}}}), "unknown-item@/items/1/needs/k/from"),
        (
            json!({"k": {"from": "beta", "select": {"kind": "patch"}}}),
            "self-dependency@/items/1/needs/k/from",
        ),
        (json!({"k": {"from": "alpha"}}), "missing-field@/items/1/needs/k"),
        (json!({"k": {"select": {"kind": "patch"}}}), "missing-field@/items/1/needs/k"),
        (
            json!({"k": {"from": "alpha", "select": {"kind": "ouput"}}}),
            "unknown-select@/items/1/needs/k/select/kind",
        ),
        (
            json!({"k": {"from": "alpha", "select": {"kind": "output"}}}),
            "missing-field@/items/1/needs/k/select",
        ),
        (json!({"k": 5}), "wrong-type@/items/1/needs/k"),
        (
            json!({"k": {"from": "alpha", "select": {"kind": "patch", "path": "x"}}}),
            "unknown-field@/items/1/needs/k/select/path",
        ),
    ];
    for (value, expected) in cases {
        check("/items/1/needs", value, &[expected]);
    }
}

#[test]
fn the_graph_is_checked() {
    check("/items/1/id", json!("alpha"), &["duplicate-id@/items/1/id"]);
    check("/items/0/depends_on", json!(["alpha"]), &["self-dependency@/items/0/depends_on/0"]);
    let mut plan = json!({"id": "r", "queue": "default", "items": []});
    let graph = [("a", "c"), ("b", "a"), ("c", "b"), ("behind", "a"), ("x", "y"), ("y", "x")];
    for (id, dep) in graph {
        let item =
            json!({"id": id, "executor": "dispatch", "inputs": {}, "depends_on": [dep], "resourceLocks": []});
        plan["items"].as_array_mut().expect("items").push(item);
    }
    let found = findings_of(&plan);
    let texts: Vec<(&str, &str)> =
        found.iter().map(|finding| (finding.pointer.as_str(), finding.message.as_str())).collect();
    assert_eq!(
        texts,
        [
            ("/items/0/depends_on", "dependency cycle: a → c → b → a"),
            ("/items/4/depends_on", "dependency cycle: x → y → x"),
        ]
    );
    // A cycle through hand-offs counts too.
    let mut plan = base();
    plan["items"][0]["depends_on"] = json!(["beta"]);
    plan["items"][1]["needs"] = json!({"k": {"from": "alpha", "select": {"kind": "patch"}}});
    assert_eq!(findings_of(&plan)[0].code, "dependency-cycle");
}

#[test]
fn all_findings_come_at_once() {
    let plan = json!({"id": "a/b", "queue": "defalt", "extra": 1, "items": [
        {"id": "x", "executor": "nope", "inputs": [], "depends_on": ["gone", "x"], "resourceLocks": ["k", "k"],
         "maxAttempts": 0, "env": {"=": "v"}},
        {"id": "x", "executor": "dispatch", "inputs": {}, "resourceLocks": []},
    ]});
    let mut codes: Vec<&str> = findings_of(&plan).iter().map(|finding| finding.code).collect();
    codes.sort_unstable();
    assert_eq!(
        codes,
        [
            "bad-env-name",
            "bad-id",
            "duplicate-id",
            "duplicate-lock",
            "missing-field",
            "out-of-range",
            "self-dependency",
            "unknown-executor",
            "unknown-field",
            "unknown-item",
            "unknown-queue",
            "wrong-type",
        ]
    );
}

#[track_caller]
fn check_bytes(bytes: &[u8], code: &str, text: &str) {
    let started = Instant::now();
    let found = parse_plan(bytes, &context()).expect_err("must be refused");
    assert!(started.elapsed().as_secs() < 60, "took {:?}", started.elapsed());
    assert!(
        found.iter().any(|finding| finding.code == code && finding.to_string().contains(text)),
        "{code} {text}: {:?}",
        &found[..found.len().min(3)]
    );
}

#[test]
fn hostile_bytes_are_refused_with_their_place() {
    check_bytes(b"", "not-json", "line 1, column 0");
    check_bytes(b"{\n  \"id\": oops}", "not-json", "line 2, column 9");
    check_bytes(b"{} {}", "not-json", "trailing");
    check_bytes(b"\xef\xbb\xbf{}", "not-json", "byte order mark");
    check_bytes(b"{\"id\": \"\xff\"}", "not-json", "line 1");
    check_bytes(b"{\"id\": 1e999}", "not-json", "range");
    check_bytes(b"[]", "wrong-type", "expected an object, found an array");
    check_bytes(br#"{"id":"a","id":"b"}"#, "duplicate-key", "/id");
    check_bytes(br#"{"items":[{"inputs":{"a":{"b":1,"b":2}}}]}"#, "duplicate-key", "/items/0/inputs/a/b");
    check_bytes(&[b'['; 10_000_000], "too-deep", "64 levels");
    check_bytes("{\"a\":".repeat(1_000_000).as_bytes(), "too-deep", "/a/a");
    check_bytes(&vec![b' '; (64 << 20) + 1], "too-large", "67108865 bytes");
    let long = format!("{{\"id\": \"{}\"}}", "x".repeat((1 << 20) + 1));
    check_bytes(long.as_bytes(), "string-too-long", "/id");
    let many = format!("{{\"items\":[{}1]}}", "1,".repeat(500));
    check_bytes(many.as_bytes(), "too-many-items", "501 items");
    let zeros = format!("{{\"x\":[{}0]}}", "0,".repeat(4_000_001));
    check_bytes(zeros.as_bytes(), "too-many-values", "4000000");
    // A thousand findings are enough.
    let broken = format!("{{\"items\":[{}{{}}]}}", "{},".repeat(90));
    let found =
        parse_plan(broken.as_bytes(), &PlanContext { items_max: 100_000, ..context() }).expect_err("broken");
    assert!(found.len() > 400);
    let broken = format!("{{\"items\":[{}{{}}]}}", "{},".repeat(9_000));
    let found =
        parse_plan(broken.as_bytes(), &PlanContext { items_max: 100_000, ..context() }).expect_err("broken");
    assert_eq!((found.len(), found.last().map(|finding| finding.code)), (1_000, Some("more-findings")));
}

/// Time must grow with the size, not with its square: four times the items may take at most about eight times as long.
#[test]
fn large_and_hostile_graphs_take_linear_time() {
    type Dependencies = fn(usize, usize) -> Vec<usize>;
    let shapes: [(&str, Dependencies); 4] = [
        ("layered", |index, _| if index >= 10 { vec![index - 10] } else { vec![] }),
        ("fan-in", |index, count| if index + 1 == count { (0..index).collect() } else { vec![] }),
        ("one cycle", |index, count| vec![(index + 1) % count]),
        ("unknown", |index, count| vec![index + count]),
    ];
    let context = PlanContext::default();
    for (name, deps) in shapes {
        let time = |count: usize| {
            let item = |index: usize| {
                let deps: Vec<String> =
                    deps(index, count).iter().map(|dep| format!("\"item{dep}\"")).collect();
                format!(
                    "{{\"id\":\"item{index}\",\"executor\":\"dispatch\",\"inputs\":{{}},\"depends_on\":[{}],\
                     \"resourceLocks\":[]}}",
                    deps.join(",")
                )
            };
            let items: Vec<String> = (0..count).map(item).collect();
            let plan = format!("{{\"id\":\"r\",\"queue\":\"q\",\"items\":[{}]}}", items.join(","));
            let started = Instant::now();
            let parsed = parse_plan(plan.as_bytes(), &context);
            let elapsed = started.elapsed();
            assert_eq!(parsed.is_ok(), name == "layered" || name == "fan-in", "{name}");
            elapsed
        };
        time(1_000);
        let (small, large) = (time(20_000), time(80_000));
        // The fixed part covers a busy machine and the bounded search for hints.
        let allowed = small * 8 + std::time::Duration::from_secs(5);
        assert!(large < allowed, "{name}: 20,000 items took {small:?}, 80,000 took {large:?}");
    }
}

#[test]
fn added_items_may_depend_on_the_run() {
    let folded = common::Folded::items("a b");
    let check = |items: Value, expected: &[&str]| {
        let bytes = serde_json::to_vec(&items).expect("json");
        let found = match parse_items(&bytes, &folded.state, &context()) {
            Ok(parsed) => parsed.warnings,
            Err(findings) => findings,
        };
        let short: Vec<String> =
            found.iter().map(|finding| format!("{}@{}", finding.code, finding.pointer)).collect();
        assert_eq!(short, expected);
    };
    let item = |id: &str, deps: &[&str]| json!({"id": id, "executor": "dispatch", "inputs": {}, "depends_on": deps, "resourceLocks": []});
    check(json!([item("c", &["a"]), item("d", &["c", "b"])]), &[]);
    check(json!([item("a", &[])]), &["duplicate-id@/0/id"]);
    check(json!([item("c", &["z"])]), &["unknown-item@/0/depends_on/0"]);
    check(json!([item("c", &["d"]), item("d", &["c"])]), &["dependency-cycle@/0/depends_on"]);
    check(json!({}), &["wrong-type@"]);
    let many: Vec<Value> = (0..99).map(|index| item(&format!("n{index}"), &[])).collect();
    check(json!(many), &["too-many-items@"]);
}
