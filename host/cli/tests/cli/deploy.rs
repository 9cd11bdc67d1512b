//! `pangolin deploy` against ministack. No test of this project runs against AWS itself.
//!
//! What ministack does not do, so that nothing here shows it: it makes change sets from the template alone (what CloudFormation
//! says about replacements is not shown), drops Object Lock, the life cycle of buckets, recovery of tables, `RecursiveLoop` and
//! reserved concurrency of functions (so `verify` must fail, with exactly these findings), never asks for rights, and never
//! fails to make a resource. Alarms have no data there. The functions are three scripts that end at once: what functions do
//! is tested in `lambdas/`.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use pangolin_deploy::{Architecture, LABEL_FILE, Label};
use pangolin_runtime::aws::{processor, release};
use pangolin_s3_fake::Ministack;
use serde_json::Value;

use crate::harness::{Output, Place};

const CONFIG: &str = r#"namespace = "demo"
[queues.default]
concurrency = 2
[executors.dispatch]
backend = "fargate"
network = "host"
image = "registry.example/worker@sha256:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
[deploy]
stack = "demo"
log_retention_days = 7
tags = { team = "platform" }
"#;

/// The processor of this machine.
const HERE: Architecture =
    if cfg!(target_arch = "aarch64") { Architecture::Arm64 } else { Architecture::X86_64 };

/// The other one.
const OTHER: Architecture =
    if cfg!(target_arch = "aarch64") { Architecture::X86_64 } else { Architecture::Arm64 };

/// Runs with an emulator and nothing else of AWS.
fn run(place: &Place, endpoint: &str, args: &[&str]) -> Output {
    place.run_with(args, |command| {
        command.env("AWS_ENDPOINT_URL", endpoint).env("AWS_REGION", "eu-central-1");
        command.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test");
    })
}

/// Archives with a script each, of the release of this program: `code/` beside the project.
fn make_packages(place: &Place, arch: Architecture) {
    let release = release(processor(arch));
    for function in ["inbox", "tick", "task-events"] {
        let label = match function {
            "tick" => Label::of(function, arch, &release),
            _ => Label::plain(function, arch, &release.version),
        };
        package(place, &label);
    }
}

/// The archive of a function with this label.
fn package(place: &Place, label: &Label) {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default()
        .compression_method(zip::CompressionMethod::Stored)
        .unix_permissions(0o755);
    zip.start_file("bootstrap", options).unwrap();
    writeln!(zip, "#!/bin/sh\n# {}\nexit 1", label.function).unwrap();
    zip.start_file(LABEL_FILE, options).unwrap();
    zip.write_all(&label.to_bytes()).unwrap();
    let bytes = zip.finish().unwrap().into_inner();
    place.write(&format!("code/{}-{}.zip", label.function, label.architecture.as_str()), bytes);
}

/// Status of `HEAD` for a path of S3.
fn head(endpoint: &str, path: &str) -> String {
    let address = endpoint.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "HEAD {path} HTTP/1.0\r\nhost: {address}\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split_whitespace().nth(1).unwrap_or_default().to_owned()
}

/// Where the archive with a digest is.
fn project_key(digest: &str) -> String {
    pangolin_deploy::names::project_key(digest.strip_prefix("sha256:").unwrap())
}

fn texts<'a>(list: &'a Value, key: &str) -> Vec<&'a str> {
    list.as_array().unwrap().iter().map(|it| it[key].as_str().unwrap()).collect()
}

#[test]
fn a_stack_from_nothing_to_nothing() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let Some(server) = runtime.block_on(Ministack::start("pangolin deploy")) else { return };
    let endpoint = server.endpoint();
    let place = Place::new();
    place.write("pangolin.toml", CONFIG);
    make_packages(&place, HERE);
    let run = |args: &[&str]| run(&place, &endpoint, args);

    // Nothing there yet, and a plan makes nothing.
    run(&["deploy", "status"])
        .code(5)
        .says(&["there is no stack demo", "pangolin deploy apply --stack demo"]);
    let plan = run(&["deploy", "plan", "--packages", "code"]).code(0);
    let mut lines = plan.stdout.lines();
    assert_eq!(lines.next(), Some(&*format!("stack demo in eu-central-1 at {endpoint}")));
    assert_eq!(lines.next(), Some(&*format!("release {}", release(processor(HERE)))));
    let project = lines.next().unwrap().strip_prefix("project ").unwrap().to_owned();
    assert!(project.starts_with("sha256:"), "{project}");
    assert!(lines.next().unwrap().starts_with("stack demo (new): "), "{}", plan.stdout);
    for line in ["  + add Ledger (AWS::DynamoDB::Table)", "  + add Tick (AWS::Lambda::Function)"] {
        assert!(plan.stdout.lines().any(|it| it == line), "{line} is not in\n{}", plan.stdout);
    }
    let plan = run(&["deploy", "plan", "--packages", "code", "--json"]).code(0).json();
    assert_eq!((&plan["creates"], &plan["stack"]), (&Value::Bool(true), &Value::from("demo")));
    assert_eq!(plan["endpoint"], *endpoint);
    assert_eq!(plan["project"], *project, "packed twice, it is the same");
    assert_eq!(plan["release"]["version"], release(processor(HERE)).version);
    run(&["deploy", "status"]).code(5);

    // What the command line says wins over the environment.
    let elsewhere = "http://127.0.0.1:9";
    run(&["deploy", "status", "--endpoint-url", elsewhere]).code(1);
    // A profile that was named is not passed over for the keys in the environment.
    run(&["deploy", "status", "--profile", "nosuch"]).code(2).says(&["there is no profile \"nosuch\""]);
    super::deploy::run(&place, elsewhere, &["deploy", "status", "--endpoint-url", &endpoint]).code(5);

    // Nobody is asked, so nothing happens; with --yes it does.
    run(&["deploy", "apply", "--packages", "code"]).code(2).says(&["there is nobody to ask", "hint: --yes"]);
    run(&["deploy", "status"]).code(5);
    let applied = run(&["deploy", "apply", "--packages", "code", "--yes", "--json"]).code(0).says(&[
        "+ add Ledger",
        &project_key(&project),
        "  Ledger: CREATE_COMPLETE",
        "uploading code of tick",
        "made the signing key",
    ]);
    assert!(!applied.stderr.contains("Ledger: CREATE_IN_PROGRESS"), "{}", applied.stderr);
    let deployment = &applied.json()["applied"]["deployment"];
    let (data, anchor) =
        (deployment["dataBucket"].as_str().unwrap(), deployment["anchor"]["bucket"].as_str().unwrap());
    assert_eq!(head(&endpoint, &format!("/{data}/{}", project_key(&project))), "200");

    // The section of pangolin.toml is in force, and --remote finds the stack and the project in it.
    let status = run(&["deploy", "status", "--json"]).code(0).json();
    assert_eq!(status["parameters"]["LogRetentionDays"], "7");
    assert_eq!(status["parameters"]["Architecture"], HERE.as_str());
    assert_eq!(status["parameters"]["Project"], *project);
    assert_eq!(status["hasCode"], true);
    assert_eq!(status["templateIsCurrent"], true);
    let pulse = &status["pulse"];
    assert_eq!(
        pulse["unreadable"],
        serde_json::json!([]),
        "an old ministack needs cbor2 for alarms: pip install cbor2"
    );
    assert_eq!(pulse["lastLook"], Value::Null, "no function looks here");
    assert_eq!(pulse["deadLetters"]["waiting"], 0);
    assert!(pulse["doorbells"]["waiting"].is_u64());
    assert_eq!(pulse["alarms"].as_array().unwrap().len(), 6);
    let text = run(&["deploy", "status"]).code(0);
    for part in ["state         UPDATE_COMPLETE", "last look     never", "alarms        0 of 6 on"] {
        assert!(text.stdout.contains(part), "{}", text.stdout);
    }
    let runs = run(&["orch", "runs", "--remote", "demo", "--json"]).code(0).json();
    assert_eq!(runs["runs"], serde_json::json!([]));

    // Exactly what the emulator drops is found.
    let verified = run(&["deploy", "verify", "--packages", "code", "--json"]).code(1).json();
    assert_eq!((&verified["holds"], &verified["codeCompared"]), (&Value::Bool(false), &Value::Bool(true)));
    let (bad, fine): (Vec<Value>, Vec<Value>) =
        verified["checks"].as_array().unwrap().iter().cloned().partition(|check| check["fine"] == false);
    let dropped = [
        "recovery to a point in time",
        "expiry of objects",
        "object lock",
        "loops through the queue",
        "reserved concurrency",
        "attack",
    ];
    assert_eq!(texts(&Value::from(bad), "what"), dropped);
    assert_eq!(fine.iter().filter(|check| check["what"] == "code").count(), 3);
    let text = run(&["deploy", "verify"]).code(1).says(&["the code of the functions was not compared"]);
    assert!(text.stdout.contains("\n  FAIL  object lock: none "), "{}", text.stdout);
    assert!(text.stdout.ends_with(" checks do not hold\n"), "{}", text.stdout);

    // Nothing more to do; applied again, the key stays.
    let plan = run(&["deploy", "plan", "--packages", "code"]).code(0);
    assert!(plan.stdout.ends_with("\nstack demo: no changes\n"), "{}", plan.stdout);
    let again = run(&["deploy", "apply", "--packages", "code", "--yes", "--json"]).code(0).json();
    assert_eq!((&again["applied"]["madeKey"], &again["applied"]["uploaded"]), (&false.into(), &0.into()));
    // Other configuration is a change of the tick, and the other processor one of all functions: its project was made here too.
    place.write("pangolin.toml", CONFIG.replace("concurrency = 2", "concurrency = 3"));
    let changed = run(&["deploy", "plan", "--packages", "code", "--json"]).code(0).json();
    let tick = changed["changes"].as_array().unwrap().iter().find(|change| change["id"] == "Tick").unwrap();
    assert_eq!(tick["action"], "modify", "{changed}");
    assert!(tick["reasons"].to_string().contains("because of Project"), "{changed}");
    assert_ne!(changed["project"], *project);
    place.write("pangolin.toml", CONFIG);
    make_packages(&place, OTHER);
    let flags = ["deploy", "apply", "--packages", "code", "--yes", "--json", "--arch", OTHER.as_str()];
    let applied = run(&flags).code(0).json();
    assert_eq!(applied["applied"]["deployment"]["workers"]["architecture"], OTHER.as_str());
    let moved = applied["applied"]["deployment"]["project"].as_str().unwrap();
    assert_eq!(head(&endpoint, &format!("/{data}/{}", project_key(moved))), "200");
    assert_eq!(head(&endpoint, &format!("/{data}/{}", project_key(&project))), "200", "for a rollback");
    run(&["deploy", "apply", "--packages", "code", "--yes"]).code(0);
    let plan = run(&["deploy", "plan", "--packages", "code", "--set", "stuck_after_minutes=30", "--json"]);
    let changed = plan.code(0).json();
    assert_eq!(texts(&changed["changes"], "id"), ["RunIsStuck"], "{changed}");

    // Removed only by name, and never the anchor.
    run(&["deploy", "destroy"]).code(2).says(&["there is nobody to ask", "--yes-destroy demo"]);
    run(&["deploy", "destroy", "--yes-destroy", "other"]).code(2).says(&["\"other\" is not the name"]);
    run(&["deploy", "destroy", "--anchor", "--yes-destroy", "demo"])
        .code(1)
        .says(&["refused: the anchor bucket is never destroyed", anchor]);
    let destroyed = run(&["deploy", "destroy", "--yes-destroy", "demo"]).code(0);
    for (what, name) in [("anchor bucket", anchor), ("data bucket", data)] {
        assert!(destroyed.stdout.contains(&format!("  {what} {name}: ")), "{}", destroyed.stdout);
        assert_eq!(head(&endpoint, &format!("/{name}")), "200", "{name} stays");
    }
    run(&["deploy", "status"]).code(5);
    run(&["deploy", "destroy", "--yes-destroy", "demo"]).code(5);
}

#[test]
fn bad_input_is_told_all_at_once_and_before_any_call() {
    // Nobody listens there.
    let nowhere = "http://127.0.0.1:9";
    let place = Place::new();
    let run = |args: &[&str]| run(&place, nowhere, args);
    run(&["deploy", "apply"]).code(2).says(&["no pangolin.toml in <dir>"]);
    place.write("pangolin.toml", CONFIG.replace("log_retention_days = 7", "log_retention_days = 8"));
    run(&["deploy", "plan", "--set", "tick_concurrency=1", "--set", "nonsense"]).code(2).says(&[
        "error: the settings of the stack cannot be used",
        "log_retention_days is 8",
        "tick_concurrency is 1",
        "--set \"nonsense\"",
    ]);
    place.write("pangolin.toml", CONFIG.replace("log_retention_days", "log_days"));
    run(&["deploy", "plan"]).code(2).says(&["log_days", "log_retention_days"]);
    place.write("pangolin.toml", CONFIG);
    let missing = ["inbox", "tick", "task-events"].map(|name| format!("code/{name}-arm64.zip is missing"));
    run(&["deploy", "plan", "--packages", "code", "--arch", "arm64"])
        .code(2)
        .says(&missing.each_ref().map(String::as_str))
        .says(&["cargo xtask package --arch arm64"]);
    // Archives of another release: none of them is taken, and each is named with what it is.
    make_packages(&place, HERE);
    let mut older = release(processor(HERE));
    older.native_code = "wasmtime 1.2.3".to_owned();
    package(&place, &Label::of("tick", HERE, &older));
    older.version = "0.0.1".to_owned();
    package(&place, &Label::plain("inbox", HERE, &older.version));
    for verb in ["plan", "apply"] {
        run(&["deploy", verb, "--packages", "code"]).code(2).says(&[
            &format!("code/inbox-{}.zip is of release 0.0.1, this program is ", HERE.as_str()),
            &format!(
                "code/tick-{}.zip loads native code for wasmtime 1.2.3, this program makes it for",
                HERE.as_str()
            ),
            "hint: `cargo xtask package",
        ]);
    }
    run(&["deploy", "status", "--remote", "demo"]).code(2).says(&["leave --remote"]);
    run(&["deploy", "status", "--stack", "No_Name"]).code(2).says(&["stack is \"No_Name\""]);
    place.run(&["deploy", "status"]).code(2).says(&["no AWS region is known"]);
    run(&["deploy", "cost", "--minutes", "0", "--items", "1", "--runs", "2"])
        .code(2)
        .says(&["minutes is 0", "1 items in 2 runs"]);
    run(&["deploy", "status"]).code(1).says(&["describing stack demo"]);
}

#[test]
fn the_template_is_the_one_in_infra() {
    let place = Place::new();
    let expected = include_str!("../../../../infra/template.json");
    for flags in [&[][..], &["--json"]] {
        let arguments = [&["deploy", "export"], flags].concat();
        assert!(place.run(&arguments).code(0).stdout == expected, "infra/template.json differs from export");
    }
}

#[test]
fn a_bill_is_a_table_or_json() {
    let place = Place::new();
    insta::assert_snapshot!(
        "deploy-cost",
        place.run(&["deploy", "cost", "--items", "500", "--minutes", "12"]).shown()
    );
    let bill = place.run(&["deploy", "cost", "--items", "500", "--minutes", "12", "--json"]).code(0).json();
    assert_eq!(bill["load"]["runs"], 5);
    let sum: f64 =
        bill["work"].as_array().unwrap().iter().map(|line| line["dollars"].as_f64().unwrap()).sum();
    assert!((sum - bill["workDollars"].as_f64().unwrap()).abs() < 1e-9, "{bill}");
    assert!(bill["prices"]["date"].is_string());
    let odd = place.run(&["deploy", "cost", "--vcpu", "3", "--memory-gb", "5", "--json"]).code(0);
    let odd = odd.says(&["no size of 3 vCPU and 5 GB", "4 vCPU and 8 GB"]).json();
    assert_eq!((&odd["load"]["vcpu"], &odd["load"]["memoryGb"]), (&4.0.into(), &8.0.into()));
    let idle = place.run(&["deploy", "cost", "--items", "0", "--json"]).code(0).json();
    assert_eq!(idle["workDollars"], 0.0);
}

#[test]
fn completions_know_the_verbs() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = place.run(&["completions", shell]).code(0).stdout;
        for word in ["deploy", "yes-destroy", "endpoint-url"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
}
