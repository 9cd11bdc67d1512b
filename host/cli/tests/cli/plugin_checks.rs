//! What plugins say about subagents, pipelines and plans before anything runs, and what `doctor` says about plugins.

use pangolin_plugin_authority::{Manifest, embed};
use serde_json::{Value, json};

use crate::{
    deployment::Daemon,
    harness::{Output, Place},
};

fn initialised() -> Place {
    let place = Place::new();
    place.run(&["init", "--namespace", "test"]).code(0);
    place
}

fn register(place: &Place, name: &str, more: &[&str]) -> Output {
    let arguments: Vec<&str> = ["subagent", "register", "--name", name].iter().chain(more).copied().collect();
    place.run(&arguments)
}

fn item(id: &str, inputs: &Value) -> Value {
    json!({ "id": id, "executor": "dispatch", "inputs": inputs, "depends_on": [], "resourceLocks": [] })
}

fn findings(document: &Value) -> Vec<(&str, &str)> {
    let all = document["findings"].as_array().unwrap();
    all.iter().map(|it| (it["pointer"].as_str().unwrap(), it["message"].as_str().unwrap())).collect()
}

/// A block without needs, to be looked at and not to be run.
fn block(id: &str, needs: &str) -> Vec<u8> {
    let text = r#"(component
        (import "pangolin:block/stage@1.0.0" (instance))
        (instance $run)
        (export "pangolin:block/run@1.0.0" (instance $run)))"#;
    let manifest = format!(
        "[plugin]\nid = '{id}'\nkind = 'block'\ncontract = '^1.0'\nversion = '0.1.0'\n[needs]\n{needs}\n"
    );
    embed(&wat::parse_str(text).unwrap(), &Manifest::from_toml(&manifest).unwrap()).unwrap()
}

#[test]
fn a_subagent_whose_adapter_refuses_its_params_is_not_registered() {
    let place = initialised();
    let refused = register(
        &place,
        "s",
        &[
            "--adapter",
            "command",
            "--param",
            "argv=[\"sh\",\"-c\",\"fix {{input.file}}\",7]",
            "--param",
            "shell=true",
            "--prompt-template",
            "look at {{file",
        ],
    );
    insta::assert_snapshot!("subagent-refused", refused.shown());
    place.run(&["subagent", "get", "s"]).code(5);
    let missing = register(&place, "s", &["--adapter", "command", "--json"]).code(1).json();
    assert_eq!(missing["registered"], false);
    assert_eq!(findings(&missing)[0].0, "/adapter/params/argv");
    // What the item brings is not known yet, and so no fault of the subagent.
    let argv = ["--adapter", "command", "--param", "argv=[\"echo\",\"{{input.file}}\"]", "--json"];
    assert_eq!(register(&place, "s", &argv).code(0).json().get("findings"), None);
    let secret =
        ["--adapter", "command", "--param", "argv=[\"echo\"]", "--param", "envSecrets={\"TOKEN\":\"T\"}"];
    register(&place, "secret", &secret).code(0);
    let claude = ["--adapter", "claude-code", "--param", "maxTurns=0", "--param", "bare=1", "--json"];
    let claude = register(&place, "c", &claude).code(1).json();
    let places: Vec<&str> = findings(&claude).into_iter().map(|(pointer, _)| pointer).collect();
    assert_eq!(places, ["/adapter/params/maxTurns", "/adapter/params/bare"]);
}

#[test]
fn a_plugin_that_nobody_has_yet_is_a_warning_until_something_runs() {
    let place = initialised();
    let agent = register(&place, "later", &["--adapter", "acme/agent"]).code(0);
    assert!(agent.stdout.starts_with("pangolin://test/subagent/later/"), "{agent:?}");
    agent.says(&["warning: /adapter/id:", "\"acme/agent\" does not exist", "registered subagent later"]);
    let spec = json!({ "schemaVersion": 1, "id": "test.later", "blocks": [
        { "kind": "agent" }, { "kind": "plugin", "plugin": "acme/judge" }
    ]});
    place.write("later.json", spec.to_string());
    let registered = place.run(&["pipeline", "register", "later.json", "--json"]).code(0).json();
    assert_eq!(
        (&registered["name"], &registered["findings"][0]["severity"]),
        (&json!("test.later"), &json!("warning"))
    );
    assert_eq!(findings(&registered)[0].0, "/blocks/1/plugin");
    place
        .run(&["pipeline", "validate", "later.json"])
        .code(0)
        .says(&["warning: /blocks/1/plugin", "acme/judge"]);
    let inputs = json!({ "subagent": "later", "pipeline": "test.later" });
    place.write(
        "plan.json",
        json!({ "id": "r", "queue": "default", "items": [item("a", &inputs)] }).to_string(),
    );
    place.run(&["orch", "validate", "plan.json"]).code(1).says(&[
        "/items/0/inputs/subagent: subagent \"later\": runtime-adapter \"acme/agent\" does not exist",
        "/items/0/inputs/pipeline: block \"acme/judge\" does not exist",
    ]);
}

#[test]
fn a_plan_is_refused_for_what_its_adapters_and_templates_miss() {
    let place = initialised();
    let argv = "argv=[\"echo\",\"{{input.file}}\",\"{{input.n.k}}\"]";
    register(&place, "echo", &["--adapter", "command", "--param", argv]).code(0);
    let prompted = ["--adapter", "command", "--param", "argv=[\"echo\",\"{{prompt}}\"]"];
    let template = ["--prompt-template", "do {{what}} with {{n.k}}"];
    register(&place, "prompted", &[&prompted[..], &template[..]].concat()).code(0);
    let secret =
        ["--adapter", "command", "--param", "argv=[\"echo\"]", "--param", "envSecrets={\"TOKEN\":\"T\"}"];
    register(&place, "secret", &secret).code(0);
    place.run(&["env", "register", "--name", "bundle", "--secret", "T=env://T"]).code(0);
    let judged = json!({ "schemaVersion": 1, "id": "test.judged", "blocks": [
        { "kind": "script", "command": "true" },
        { "kind": "plugin", "plugin": "secret-scan", "params": { "maxFindings": 3 } }
    ]});
    place.write("judged.json", judged.to_string());
    place.run(&["pipeline", "register", "judged.json"]).code(0);
    let input = json!({ "file": "a", "what": "it", "n": { "k": 1 } });
    let complete = |subagent: &str| json!({ "subagent": subagent, "workerInput": input });
    let mut items = vec![
        item("fine", &complete("echo")),
        item("fine-prompt", &complete("prompted")),
        item("fine-secret", &json!({ "subagent": "secret", "env": ["bundle"] })),
        // Nobody asks its adapter.
        item("no-agent", &json!({ "subagent": "echo", "pipeline": "test.judged" })),
    ];
    let write = |items: &[Value]| {
        place.write("plan.json", json!({ "id": "r", "queue": "default", "items": items }).to_string());
    };
    write(&items);
    place.run(&["orch", "validate", "plan.json"]).code(0);
    items.push(item("no-input", &json!({ "subagent": "echo" })));
    items.push(item("half", &json!({ "subagent": "prompted", "workerInput": { "what": "it" } })));
    items.push(item("no-secret", &json!({ "subagent": "secret" })));
    write(&items);
    let validated = place.run(&["orch", "validate", "plan.json", "--json"]).code(1).json();
    insta::assert_snapshot!(
        "plan-refused-by-adapters",
        place.run(&["orch", "validate", "plan.json"]).shown()
    );
    let daemon = Daemon::start(&place);
    let refused = place.run(&["orch", "submit", "plan.json", "--json"]).code(1).json();
    drop(daemon);
    let refused = findings(&refused);
    assert!(findings(&validated).iter().all(|found| refused.contains(found)), "{refused:#?}");
}

#[test]
fn blocks_look_at_their_params_before_the_agent_runs() {
    let place = initialised();
    let spec = |params: Value| {
        json!({ "schemaVersion": 1, "id": "test.judged", "blocks": [
            { "kind": "agent" },
            { "kind": "plugin", "plugin": "diff-policy", "params": { "maxFiles": 3 } },
            { "kind": "plugin", "plugin": "secret-scan", "params": params }
        ]})
        .to_string()
    };
    place.write(
        "judged.json",
        spec(json!({ "maxFindings": "many", "rules": { "jwt": "perhaps" }, "zip": 1 })),
    );
    insta::assert_snapshot!("pipeline-refused", place.run(&["pipeline", "register", "judged.json"]).shown());
    place.run(&["pipeline", "get", "test.judged"]).code(5);
    let validated = place.run(&["pipeline", "validate", "judged.json", "--json"]).code(1).json();
    let places: Vec<&str> = findings(&validated).into_iter().map(|(pointer, _)| pointer).collect();
    assert!(places.contains(&"/blocks/2/params/maxFindings"), "{places:?}");
    place.write("judged.json", spec(json!({ "maxFindings": 3 })));
    place.run(&["pipeline", "register", "judged.json"]).code(0);
    // Without a deployment there is nobody to ask.
    let elsewhere = Place::new();
    elsewhere.write("judged.json", spec(json!({ "maxFindings": "many" })));
    elsewhere.run(&["pipeline", "validate", "judged.json"]).code(0);
}

#[test]
fn doctor_lists_plugins_that_would_not_run() {
    let place = initialised();
    let checks = || {
        let document = place.run(&["doctor", "--json"]).json();
        let all = document["checks"].as_array().unwrap().clone();
        all.into_iter().filter(|check| check["name"] == "plugins").collect::<Vec<Value>>()
    };
    assert_eq!(checks(), Vec::<Value>::new(), "nothing is installed");
    let quiet = block("acme/quiet", "");
    let wants = block("acme/reader", "read = [{ path = 'workspace/**', why = 'looks' }]");
    for (name, bytes) in [("quiet.wasm", &quiet), ("reader.wasm", &wants)] {
        place.write(name, bytes);
        place.run(&["plugin", "add", name, "--yes", "--approver", "human:t"]).code(0);
    }
    assert_eq!(checks()[0]["detail"], "2 installed, all can run");
    let file = place.path().join("pangolin.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let grant = "\n[plugins.\"acme/reader\".grant]\nread = ['workspace/**']\n";
    std::fs::write(&file, text + grant).unwrap();
    let inert = checks();
    assert_eq!((inert.len(), &inert[0]["status"]), (1, &json!("warn")), "{inert:#?}");
    let detail = inert[0]["detail"].as_str().unwrap();
    assert!(detail.starts_with("block acme/reader is inert: "), "{detail}");
    assert_eq!(inert[0]["hint"], "look at it and approve it: pangolin plugin add acme/reader");
    place.run(&["plugin", "add", "acme/reader", "--yes", "--approver", "human:t"]).code(0);
    assert_eq!(checks()[0]["status"], "ok");
    std::fs::remove_dir_all(place.path().join(".pangolin/plugins")).unwrap();
    let missing = checks();
    assert_eq!(missing.len(), 2, "{missing:#?}");
    assert_eq!(missing[0]["hint"], "pangolin plugin rebuild acme/quiet");
}
