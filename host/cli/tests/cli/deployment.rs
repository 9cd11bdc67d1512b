//! Verbs on a deployment without a daemon.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::fs::PermissionsExt as _,
    process::{Child, Stdio},
    thread,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::json;

use crate::harness::Place;

fn initialised() -> Place {
    let place = Place::new();
    place.run(&["init", "--namespace", "test"]).code(0);
    place
}

fn register(place: &Place, subagent: &str) {
    let arguments =
        ["subagent", "register", "--name", subagent, "--adapter", "command", "--param", "argv=[\"sh\"]"];
    place.run(&arguments).code(0);
}

fn plan(id: &str) -> String {
    json!({ "id": id, "queue": "default", "items": [{
        "id": "a", "executor": "dispatch", "inputs": { "subagent": "nobody" }, "depends_on": [], "resourceLocks": [],
    }] })
    .to_string()
}

#[test]
fn init_creates_a_private_key_once_and_keeps_what_is_there() {
    let place = Place::new();
    let first = place.run(&["init", "sub", "--json"]).code(0).json();
    let vkey = first["vkey"].as_str().unwrap().to_owned();
    assert!(vkey.split('+').count() >= 3, "{vkey}");
    assert!(
        fs::read_to_string(place.path().join("sub/pangolin.toml")).unwrap().contains("namespace = \"sub\"")
    );
    for file in first["files"].as_array().unwrap() {
        let path = place.path().join(file.as_str().unwrap());
        assert!(path.exists(), "{file}");
        if path.extension().is_some_and(|extension| extension == "key") {
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "{file}");
        }
    }
    let own = "namespace = \"mine\"\n[queues.default]\nconcurrency = 1\n[executors.dispatch]\nbackend = \"process\"\n";
    place.write("sub/pangolin.toml", own);
    let again = place.run(&["init", "sub", "--json"]).code(0).json();
    assert_eq!(again["vkey"], vkey.as_str());
    assert_eq!(fs::read_to_string(place.path().join("sub/pangolin.toml")).unwrap(), own);
    place.run(&["init", "sub", "--force", "--namespace", "new"]).code(0);
    assert!(
        fs::read_to_string(place.path().join("sub/pangolin.toml")).unwrap().contains("namespace = \"new\"")
    );
    // The published key file is a key file for the verifier.
    place.write("bundle.json", "{}");
    place.run(&["verify", "bundle.json", "--key", "sub/.pangolin/keys/deployment.vkey"]).code(1);
}

#[test]
fn init_checks_the_namespace_first_and_says_which_one_stays() {
    let place = Place::new();
    place.run(&["init", "sub", "--namespace", "Team A"]).code(2).says(&["--namespace", "Team A"]);
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
    place.run(&["init", "--namespace", "first"]).code(0);
    let again = place.run(&["init", "--namespace", "other"]).code(0);
    again.says(&["warning: the namespace stays \"first\"", "--namespace other was not used", "--force"]);
    let again = place.run(&["init", "--namespace", "first", "--json"]).code(0);
    assert_eq!((again.json()["namespace"].as_str(), again.stderr.as_str()), (Some("first"), ""));
}

#[test]
fn an_empty_deployment_answers_and_knows_what_it_does_not_have() {
    let place = initialised();
    place.run(&["orch", "runs"]).code(0).says(&["no run was submitted yet"]);
    assert_eq!(place.run(&["orch", "runs", "--json"]).code(0).json()["runs"], json!([]));
    place.run(&["orch", "status"]).code(0).says(&["no run is active"]);
    for verb in [
        &["orch", "status", "r"][..],
        &["orch", "watch", "r"],
        &["orch", "cancel", "r"],
        &["orch", "audit", "r"],
        &["orch", "logs", "r/a"],
        &["patch", "list", "r"],
        &["patch", "show", "r/a"],
        &["dispatch", "describe", "d-1"],
        &["dispatch", "cancel", "d-1"],
        &["subagent", "get", "nobody"],
        &["env", "get", "nobody"],
    ] {
        let output = place.run(verb).code(5).says(&["error: "]);
        assert_eq!(output.stdout, "", "{verb:?}");
    }
}

#[test]
fn a_dispatch_of_something_unregistered_is_not_found() {
    let place = initialised();
    let run = ["dispatch", "run", "--subagent", "nobody"];
    place.run(&run).code(5).says(&["subagent \"nobody\" is not registered"]);
    register(&place, "nobody");
    for (flag, kind) in [("--env", "env"), ("--capability", "capability")] {
        let arguments: Vec<&str> = run.into_iter().chain([flag, "nothing"]).collect();
        let output = place.run(&arguments).code(5).says(&[&format!("{kind} \"nothing\" is not registered")]);
        assert_eq!(output.stdout, "");
    }
    let runs = place.run(&["orch", "runs", "--json"]).code(0).json();
    assert_eq!(runs["runs"], json!([]), "nothing was submitted");
}

#[test]
fn a_directory_below_the_configuration_will_do() {
    let place = initialised();
    fs::create_dir_all(place.path().join("deep/er")).unwrap();
    let mut command = place.command(&["orch", "runs"]);
    let output = command.current_dir(place.path().join("deep/er")).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn plans_are_checked_with_pointers_and_hints() {
    let place = initialised();
    register(&place, "nobody");
    place.write("good.json", plan("r"));
    let bad = json!({ "id": "r", "queue": "nowhere", "items": [
        { "id": "a", "executor": "x", "inputs": {}, "depends_on": ["zzz"], "resourceLocks": [] },
    ] });
    place.write("bad.json", bad.to_string());
    assert_eq!(place.run(&["orch", "validate", "good.json"]).code(0).stdout, "valid: 1 item\n");
    let output = place.run(&["orch", "validate", "bad.json"]).code(1);
    assert_eq!(output.stdout, "");
    output.says(&[
        "/queue",
        "/items/0/executor",
        "/items/0/depends_on/0",
        "hint:",
        "bad.json cannot be run: 3 errors",
    ]);
    let report = place.run(&["orch", "validate", "bad.json", "--json"]).code(1).json();
    assert_eq!(
        (report["valid"].as_bool(), report["findings"].as_array().map(Vec::len)),
        (Some(false), Some(3))
    );
    place.run(&["orch", "validate", "missing.json"]).code(2).says(&["cannot read missing.json"]);
    place.run(&["orch", "validate", "good.json", "--queue", "nowhere"]).code(1).says(&["nowhere"]);
}

/// What is wrong with names in the configuration does not hide what is wrong with names in the registry.
#[test]
fn every_finding_about_a_plan_is_told_at_once() {
    let place = initialised();
    let plan = plan("many").replace("\"dispatch\"", "\"nowhere\"");
    place.write("plan.json", &plan);
    let answer = place.run(&["orch", "validate", "plan.json", "--json"]).code(1).json();
    let places: Vec<&str> =
        answer["findings"].as_array().unwrap().iter().map(|it| it["pointer"].as_str().unwrap()).collect();
    assert_eq!(places, ["/items/0/executor", "/items/0/inputs/subagent"], "{answer}");
}

#[test]
fn a_submission_without_a_daemon_is_queued() {
    let place = initialised();
    let output = place.run_with_stdin(&["orch", "submit", "-"], plan("from-stdin").as_bytes()).code(0);
    assert_eq!(output.stdout, "from-stdin\n");
    place
        .run(&["orch", "status", "from-stdin"])
        .code(7)
        .says(&["run from-stdin waits in the inbox", "hint: no daemon is serving: pangolin orch serve"]);
    output.says(&[
        "warning: /items/0/inputs/subagent",
        "no daemon is serving",
        "the run is queued",
        "hint: pangolin orch serve",
    ]);
    place.write("plan.json", plan("warned"));
    let answer = place.run(&["orch", "submit", "plan.json", "--json"]).code(0).json();
    assert_eq!(answer["findings"][0]["severity"], "warning", "{answer}");
    register(&place, "nobody");
    place.write("plan.json", plan("r"));
    let quiet = place.run(&["orch", "submit", "plan.json", "-q"]).code(0);
    assert_eq!((quiet.stdout.as_str(), quiet.stderr.as_str()), ("r\n", ""));
    let answer = place.run(&["orch", "submit", "plan.json", "--json"]).code(0).json();
    assert_eq!((answer["run"].as_str(), answer["state"].as_str()), (Some("r"), Some("queued")));
    place.write("bad.json", "{");
    let answer = place.run(&["orch", "submit", "bad.json", "--json"]).code(1).json();
    assert_eq!(answer["state"], "rejected");
}

/// A daemon that is killed at the end of the test; it never starts a worker here.
pub(crate) struct Daemon(Child);

impl Daemon {
    pub(crate) fn start(place: &Place) -> Self {
        Self::start_and_listen(place).0
    }

    /// With what it said before it served.
    pub(crate) fn start_and_listen(place: &Place) -> (Self, Vec<String>) {
        let mut command = place.command(&["orch", "serve"]);
        // Only looked for, never run: what is submitted here is refused.
        command.env("PANGOLIN_WORKER", place.write("worker", "")).stderr(Stdio::piped());
        let mut daemon = Self(command.spawn().unwrap());
        let mut lines = BufReader::new(daemon.0.stderr.take().unwrap()).lines();
        let mut seen = Vec::new();
        loop {
            let Some(line) = lines.next() else { panic!("the daemon ended: {seen:#?}") };
            let line = line.unwrap();
            if line.starts_with("serving") {
                break;
            }
            seen.push(line);
        }
        // Its log must have a reader, or it fails to write.
        thread::spawn(move || lines.for_each(drop));
        (daemon, seen)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_rejected_run_leaves_no_id_on_stdout() {
    let place = initialised();
    place.write("plan.json", plan("r"));
    let _daemon = Daemon::start(&place);
    let output = place.run(&["orch", "submit", "plan.json"]).code(1);
    assert_eq!(output.stdout, "");
    output.says(&["subagent \"nobody\" is not registered", "plan.json cannot be run"]);
    let answer = place.run(&["orch", "submit", "plan.json", "--json"]).code(1).json();
    assert_eq!((answer["state"].as_str(), answer.get("run")), (Some("rejected"), None));
}

#[test]
fn a_daemon_that_does_not_answer_is_told_from_none_by_the_exit_code() {
    let place = initialised();
    place.write("plan.json", plan("queued"));
    assert_eq!(place.run(&["orch", "submit", "plan.json"]).code(0).stdout, "queued\n");
    let daemon = Daemon::start(&place);
    // Stopped, it still holds its lease: it serves, and does not answer.
    let stopped = Pid::from_raw(i32::try_from(daemon.0.id()).unwrap());
    kill(stopped, Signal::SIGSTOP).unwrap();
    place.write("plan.json", plan("late"));
    let late = place.run(&["orch", "submit", "plan.json", "--wait", "1"]).code(7);
    assert_eq!(late.stdout, "late\n");
    late.says(&["has not answered within 1 s", "the run is in its inbox"]);
    place.write("plan.json", plan("later"));
    let document = place.run(&["orch", "submit", "plan.json", "--wait", "1", "--json"]).code(7).json();
    assert_eq!((&document["run"], &document["state"]), (&json!("later"), &json!("queued")));
    place.write("plan.json", plan("unwatched"));
    place.run(&["orch", "submit", "plan.json", "--wait", "0"]).code(0).says(&["was not waited for"]);
    place.run(&["orch", "cancel", "late", "--wait", "1"]).code(7).says(&["the request is in its inbox"]);
    kill(stopped, Signal::SIGCONT).unwrap();
    // Now it answers: what it has not admitted it refuses.
    place.write("plan.json", plan("answered"));
    place.run(&["orch", "submit", "plan.json"]).code(1).says(&["is not registered"]);
}

#[test]
fn artifacts_are_registered_listed_and_shown() {
    let place = initialised();
    place.write("cap/tools/run.sh", "#!/bin/sh\n");
    fs::set_permissions(place.path().join("cap/tools/run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    let pinned = place.run(&["capabilities", "register", "--name", "tools", "--from", "cap"]).code(0).stdout;
    assert!(pinned.starts_with("pangolin://test/capability/tools/sha256:"), "{pinned}");
    let shown = place.run(&["capabilities", "get", "tools"]).code(0).json();
    assert_eq!(
        shown["document"]["files"][0],
        json!({ "path": "tools/run.sh", "bytes": 10, "executable": true })
    );
    assert_eq!(
        place.run(&["capabilities", "get", pinned.trim()]).code(0).json()["document"],
        shown["document"]
    );

    let toml = "name = 'fixer'\ncapabilities = ['tools']\npromptTemplate = 'Fix {{file}}'\n\
                [adapter]\nid = 'command'\nparams = { argv = ['sh'] }\n";
    place.write("fixer.toml", toml);
    place.run(&["subagent", "register", "--from", "fixer.toml"]).code(0);
    let same = json!({ "capabilities": ["tools"], "promptTemplate": "Fix {{file}}",
        "adapter": { "id": "command", "params": { "argv": ["sh"] } } });
    place.write("fixer.json", same.to_string());
    place.run(&["subagent", "register", "--name", "fixer", "--from", "fixer.json"]).code(0);
    let flags = [
        "--name",
        "fixer",
        "--adapter",
        "command",
        "--param",
        "argv=[\"sh\"]",
        "--capability",
        "tools",
        "--prompt-template",
    ];
    let arguments: Vec<&str> =
        ["subagent", "register"].into_iter().chain(flags).chain(["Fix {{file}}"]).collect();
    let registered = place.run(&arguments).code(0);
    let shown = place.run(&["subagent", "get", "fixer"]).code(0).json();
    assert_eq!(registered.stdout.trim(), shown["pinned"], "all three ways give the same bytes");
    assert_eq!(shown["document"]["capabilities"][0]["name"], "tools");
    let listed = place.run(&["subagent", "list"]).code(0).stdout;
    assert_eq!(listed.lines().count(), 2, "{listed}");

    place.write("lost.toml", "name = 'lost'\ncapabilities = ['x', 'y']\nadapter = { id = 'command' }\n");
    place.run(&["subagent", "register", "--from", "lost.toml"]).code(5).says(&["not registered: x, y"]);
    place.write("typo.toml", "name = 'typo'\nsytemPrompt = ''\nadapter = { id = 'command' }\n");
    place.run(&["subagent", "register", "--from", "typo.toml"]).code(2).says(&[
        "typo.toml",
        "sytemPrompt",
        "hint:",
    ]);
    place
        .run(&["subagent", "register", "--name", "other", "--from", "fixer.toml"])
        .code(2)
        .says(&["name = \"fixer\""]);

    place.write("p.json", r#"{"schemaVersion":1,"id":"ci.test","blocks":[{"kind":"agent"}]}"#);
    place.run(&["pipeline", "register", "p.json"]).code(0);
    assert_eq!(place.run(&["pipeline", "get", "ci.test"]).code(0).json()["document"]["id"], "ci.test");
}

#[test]
fn secrets_never_reach_the_ledger_or_the_output() {
    let place = initialised();
    let arguments = ["env", "register", "--name", "models", "--value", "CI=1", "--secret", "TOKEN=inline:-"];
    place.run_with_stdin(&arguments, b"s3cret-value\n").code(0);
    let shown = place.run(&["env", "get", "models"]).code(0);
    assert_eq!(shown.json()["document"]["secrets"]["TOKEN"], "local-secret://models.TOKEN");
    assert!(!shown.stdout.contains("s3cret"));
    let file = place.path().join(".pangolin/secrets/models.TOKEN");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_to_string(&file).unwrap(), "s3cret-value");

    let leak = place.run(&["env", "register", "--name", "x", "--secret", "s3cret-without-name"]).code(2);
    assert!(!leak.stderr.contains("s3cret"), "{}", leak.stderr);
    for value in [
        "s3cret-plain",
        "vault://s3cret",
        "env://s3cret-no-name",
        "file://s3cret",
        "local-secret://../s3cret",
    ] {
        let pair = format!("TOKEN={value}");
        let leak = place
            .run(&["env", "register", "--name", "x", "--secret", &pair])
            .code(2)
            .says(&["TOKEN", "inline:-"]);
        assert!(!leak.stderr.contains("s3cret") && leak.stdout.is_empty(), "{}", leak.stderr);
    }
    place
        .run(&["env", "register", "--name", "x", "--value", "KEY=ghp_0123456789abcdef0123"])
        .code(2)
        .says(&["env \"x\" has 1 problem", "looks like a GitHub token"]);
    for bare in ["s3cretInBase64==", "s3cret-in-base64=", "s3cret/x=env://HOME", "s3cret/x=inline:y"] {
        let leak = place.run(&["env", "register", "--name", "x", "--secret", bare]).code(2);
        assert!(!leak.stderr.contains("s3cret") && leak.stdout.is_empty(), "{}", leak.stderr);
    }
    place.run(&["env", "register", "--name", "x"]).code(2);
    place.write("leaky/config", "token=ghp_0123456789abcdef0123\n");
    place
        .run(&["capabilities", "register", "--name", "leaky", "--from", "leaky"])
        .code(2)
        .says(&["looks like a GitHub token"]);
    fs::create_dir(place.path().join("void")).unwrap();
    place
        .run(&["capabilities", "register", "--name", "void", "--from", "void"])
        .code(2)
        .says(&["contains no file"]);
}

#[test]
fn the_signing_key_is_never_shown_or_stored() {
    let place = initialised();
    let key = fs::read_to_string(place.path().join(".pangolin/keys/deployment.key")).unwrap();
    let seed = serde_json::from_str::<serde_json::Value>(&key).unwrap()["seed"].as_str().unwrap().to_owned();
    place.write("bundle.json", "{}");
    place.write("bare.txt", &seed);
    place.write("mixed.txt", format!("# keys\n\n{seed}\n"));
    let file = ".pangolin/keys/deployment.key";
    let at_file = format!("@{file}");
    for (arguments, says) in [
        (&["verify", "bundle.json", "--key", file][..], "signing key"),
        (&["verify", "bundle.json", "--key", &key], "signing key"),
        (&["verify", "bundle.json", "--key", &seed], "neither a verifier key nor a file"),
        (&["verify", "bundle.json", "--key", "bare.txt"], "line 1 of key file bare.txt"),
        (&["verify", "bundle.json", "--key", "mixed.txt"], "line 3 of key file mixed.txt"),
        (&["verify", file], "signing key"),
        (&["--config", file, "orch", "runs"], "signing key"),
        (&["orch", "submit", file], "signing key"),
        (&["orch", "validate", file], "signing key"),
        (&["subagent", "register", "--from", file], "signing key"),
        (&["pipeline", "validate", file], "signing key"),
        (&["dispatch", "run", "--subagent", "x", "--input", &at_file], "signing key"),
        (&["capabilities", "register", "--name", "keys", "--from", ".pangolin/keys"], "signing key"),
    ] {
        let output = place.run(arguments).code(2).says(&[says]);
        assert!(
            !output.stderr.contains(&seed[..8]) && output.stdout.is_empty(),
            "{arguments:?}: {}",
            output.stderr
        );
    }
    place.run(&["verify", "bundle.json", "--key", file]).says(&["deployment.vkey"]);
    place
        .run(&["verify", "bundle.json", "--key", "typo.vkey"])
        .code(2)
        .says(&["typo.vkey: there is no such file"]);
}

#[test]
fn doctor_names_what_is_missing() {
    let place = Place::new();
    let without = place.run(&["doctor", "--json"]).code(1).json();
    let failed = |report: &serde_json::Value, name: &str| {
        report["checks"]
            .as_array()
            .unwrap()
            .iter()
            .any(|check| check["name"] == name && check["status"] == "fail")
    };
    assert!(failed(&without, "configuration"), "{without:#}");
    let place = initialised();
    let mut command = place.command(&["doctor", "--json"]);
    let output = command.env("PANGOLIN_WORKER", "/nowhere/pangolin-worker").output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), report["ok"].as_bool()), (Some(1), Some(false)));
    assert!(failed(&report, "worker program"), "{report:#}");
    assert!(!failed(&report, "ledger") && !failed(&report, "signing key"), "{report:#}");
}

#[test]
fn an_open_ended_run_is_extended_and_closed() {
    let place = initialised();
    register(&place, "nobody");
    let open = json!({ "id": "feed", "queue": "default", "openEnded": true, "items": [] }).to_string();
    place.write("plan.json", open);
    place.write("bad.json", "{\"id\": \"x\"}");
    let items = |deps: &[&str]| {
        json!([{
            "id": "late", "executor": "dispatch", "inputs": { "subagent": "nobody" }, "depends_on": deps,
            "resourceLocks": [],
        }])
        .to_string()
    };
    place.write("ghost.json", items(&["ghost"]));
    place.run(&["orch", "extend", "feed", "bad.json"]).code(5);
    place.run(&["orch", "close", "feed"]).code(5);
    let _daemon = Daemon::start(&place);
    place.run(&["orch", "submit", "plan.json"]).code(0);
    place.run(&["orch", "extend", "feed", "bad.json"]).code(1).says(&["an array of items"]);
    place.run(&["orch", "extend", "feed", "ghost.json"]).code(1).says(&["/0/depends_on/0", "ghost"]);
    let closed = place.run(&["orch", "close", "feed", "--json"]).code(0).json();
    assert_eq!((closed["answered"].as_bool(), closed["answer"].as_str()), (Some(true), Some("closed")));
    assert_eq!(closed["receipt"]["run"], "feed");
    place.write("late.json", items(&[]));
    place.run(&["orch", "extend", "feed", "late.json"]).code(1).says(&["has ended already"]);
    let again = place.run(&["orch", "close", "feed"]).code(0);
    again.says(&["had ended already"]);
}

#[test]
fn a_queue_with_a_pattern_that_is_not_there_is_named_by_serve_and_doctor() {
    let place = initialised();
    let config = fs::read_to_string(place.path().join("pangolin.toml")).unwrap();
    let bound = config.replacen("[queues.default]", "[queues.default]\npattern = \"acme/ghost\"", 1);
    assert_ne!(config, bound);
    place.write("pangolin.toml", bound);
    place.run(&["orch", "serve"]).code(1).says(&["queues.default.pattern", "acme/ghost"]);
    let doctor = place.run(&["doctor"]);
    assert!(doctor.stdout.contains("acme/ghost"), "{}", doctor.stdout);
}

#[test]
fn templates_in_inputs_are_checked_like_items() {
    let place = initialised();
    register(&place, "nobody");
    let plan = |subagent: &str, pipeline: &str| {
        json!({ "id": "t", "queue": "default", "items": [{
            "id": "a", "executor": "dispatch", "depends_on": [], "resourceLocks": [],
            "inputs": { "subagent": "nobody", "gate": { "onRed": "spawn-fix", "fixTemplate": {
                "executor": "dispatch", "inputs": { "subagent": subagent, "pipeline": pipeline },
            } } },
        }] })
        .to_string()
    };
    place.write("plan.json", plan("fixer", "checks"));
    let output = place.run(&["orch", "validate", "plan.json", "--json"]).code(1).json();
    let pointers: Vec<&str> = output["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|found| found["pointer"].as_str().unwrap())
        .collect();
    let at = "/items/0/inputs/gate/fixTemplate/inputs";
    assert_eq!(pointers, [format!("{at}/subagent"), format!("{at}/pipeline")]);
}
