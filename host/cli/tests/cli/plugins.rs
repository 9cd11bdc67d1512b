//! `pangolin plugin add, list, outdated, rebuild, remove` and what a run makes of them.

use std::fs;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use ed25519_dalek::SigningKey;
use pangolin_core::ids::Digest;
use pangolin_plugin_authority::{MANIFEST_SECTION, Manifest, embed, extract, sign};
use serde_json::{Value, json};

use crate::{
    deployment::Daemon,
    harness::{Output, Place},
};

const NEEDS: &str = r#"
exec = [{ program = "cargo", args = ["test", "**"], why = "runs the suite" }]
read = [{ path = "workspace/**", why = "looks at sources" }]
"#;

fn manifest(kind: &str, id: &str, needs: &str) -> Manifest {
    Manifest::from_toml(&format!(
        "[plugin]\nid = '{id}'\nkind = '{kind}'\ncontract = '^1.0'\nversion = '0.4.1'\n[needs]\n{needs}"
    ))
    .unwrap()
}

/// A block that may be looked at; it would not run.
fn suite(needs: &str) -> Vec<u8> {
    block("acme/suite", needs)
}

fn block(id: &str, needs: &str) -> Vec<u8> {
    let bare = wat::parse_str(
        r#"(component
            (import "pangolin:block/stage@1.0.0" (instance))
            (import "pangolin:block/exec@1.0.0" (instance))
            (instance $run)
            (export "pangolin:block/run@1.0.0" (instance $run)))"#,
    )
    .unwrap();
    embed(&bare, &manifest("block", id, needs)).unwrap()
}

/// A built-in adapter under another name: one that compiles.
fn agent() -> Vec<u8> {
    let builtin = pangolin_builtin_plugins::adapter("command").unwrap();
    let mut tail = Vec::new();
    // What ships has a manifest of its own, at its end.
    if let Ok(manifest) = extract(builtin) {
        let data = manifest.to_json().into();
        let section = wasm_encoder::CustomSection { name: MANIFEST_SECTION.into(), data };
        wasm_encoder::ComponentSection::append_to_component(&section, &mut tail);
    }
    let bare = builtin.strip_suffix(tail.as_slice()).unwrap();
    let mut manifest = manifest("runtime-adapter", "acme/agent", "");
    manifest.limits.memory_bytes = Some(32 << 20);
    embed(bare, &manifest).unwrap()
}

fn initialised() -> Place {
    let place = Place::new();
    place.run(&["init", "--namespace", "test"]).code(0);
    place
}

fn add(place: &Place, arguments: &[&str]) -> Output {
    let arguments: Vec<&str> = ["plugin", "add"]
        .into_iter()
        .chain(arguments.iter().copied())
        .chain(["--approver", "human:t"])
        .collect();
    place.run(&arguments)
}

fn grant(place: &Place, rules: &str) {
    let file = place.path().join("pangolin.toml");
    let text = fs::read_to_string(&file).unwrap();
    let before = text.split("\n[plugins").next().unwrap();
    fs::write(&file, format!("{before}\n[plugins.\"acme/suite\".grant]\n{rules}\n")).unwrap();
}

fn listed(place: &Place, id: &str) -> Value {
    let all = place.run(&["plugin", "list", "--json"]).code(0).json();
    all["plugins"].as_array().unwrap().iter().find(|plugin| plugin["id"] == id).cloned().unwrap_or_default()
}

fn stored(place: &Place, bytes: &[u8]) -> std::path::PathBuf {
    place.path().join(".pangolin/plugins").join(format!("{}.wasm", Digest::of(bytes).hex()))
}

#[test]
fn nothing_is_installed_before_somebody_approves() {
    let place = initialised();
    place.write("suite.wasm", suite(NEEDS));
    let asked = place.run(&["plugin", "add", "suite.wasm"]).code(2);
    insta::assert_snapshot!("plugin-add-asks", asked.shown());
    let proposed = place.run(&["plugin", "add", "suite.wasm", "--json"]).code(2).json();
    assert_eq!(
        (proposed["state"].as_str(), proposed["cuts"].as_array().map(Vec::len)),
        (Some("proposed"), Some(2))
    );
    assert_eq!(proposed["cuts"][0]["by"], "project");
    assert!(!place.path().join("pangolin.lock").exists());
    assert!(!place.path().join(".pangolin/plugins").exists());
    assert_eq!(listed(&place, "acme/suite"), Value::Null);
}

#[test]
fn an_approved_plugin_is_pinned_listed_and_removed() {
    let place = initialised();
    let bytes = agent();
    place.write("agent.wasm", &bytes);
    let added = add(&place, &["agent.wasm", "--yes"]).code(0);
    assert_eq!(added.stdout, format!("added acme/agent 0.4.1  {}\n", Digest::of(&bytes)));
    assert_eq!(fs::read(stored(&place, &bytes)).unwrap(), bytes);
    let line = listed(&place, "acme/agent");
    assert_eq!((line["state"].as_str(), line["kind"].as_str()), (Some("ready"), Some("runtime-adapter")));
    assert_eq!(line["locked"]["approver"], "human:t");
    assert_eq!(line["locked"]["source"], "file:agent.wasm");
    let table = place.run(&["plugin", "list"]).code(0).stdout;
    assert!(
        table.starts_with("PLUGIN") && table.contains("acme/agent") && table.contains("static-dag"),
        "{table}"
    );
    assert!(add(&place, &["agent.wasm"]).code(0).stdout.contains("approved already"));
    let again = add(&place, &["agent.wasm", "--json"]).code(0).json();
    assert_eq!(again["state"], "unchanged");

    let text = place.run(&["plugin", "outdated"]).code(0).stdout;
    assert_eq!(text, "acme/agent  file:agent.wasm  same\n");
    place.write("agent.wasm", suite(NEEDS));
    let news = place.run(&["plugin", "outdated", "--json"]).code(1).json();
    assert_eq!(
        (&news["plugins"][0]["outdated"], &news["plugins"][0]["id"]),
        (&json!(true), &json!("acme/agent"))
    );
    assert_eq!(listed(&place, "acme/agent")["state"], "ready", "what the source has by then does not matter");
    fs::remove_file(place.path().join("agent.wasm")).unwrap();
    place.run(&["plugin", "outdated"]).code(1);

    assert!(
        place.run(&["plugin", "remove", "acme/agent"]).code(0).stdout.starts_with("removed acme/agent 0.4.1")
    );
    place.run(&["plugin", "remove", "acme/agent"]).code(5).says(&["not in pangolin.lock"]);
    assert_eq!(listed(&place, "acme/agent"), Value::Null);
}

#[test]
fn a_plugin_is_inspected_by_its_id() {
    let nowhere = Place::new();
    let shown = nowhere.run(&["plugin", "inspect", "secret-scan"]).code(0).stdout;
    assert!(shown.contains("ships with Pangolin") && shown.contains("pangolin:block/stage"), "{shown}");
    let document = nowhere.run(&["plugin", "inspect", "secret-scan", "--json"]).code(0).json();
    let builtin = pangolin_builtin_plugins::block("secret-scan").unwrap();
    assert_eq!(
        (&document["from"], &document["path"], &document["sha256"]),
        (&json!("built-in"), &Value::Null, &json!(Digest::of(builtin)))
    );
    nowhere.run(&["plugin", "inspect", "acme/agent"]).code(5).says(&[
        "acme/agent is no file or directory here and no id of a plugin",
        "secret-scan",
        "no pangolin.toml",
    ]);

    let place = initialised();
    let bytes = agent();
    place.write("agent.wasm", &bytes);
    add(&place, &["agent.wasm", "--yes"]).code(0);
    // The pinned bytes, whatever the source has by then.
    fs::remove_file(place.path().join("agent.wasm")).unwrap();
    let document = place.run(&["plugin", "inspect", "acme/agent", "--json"]).code(0).json();
    assert_eq!(
        (&document["from"], &document["source"], &document["sha256"]),
        (&json!("lock"), &json!("file:agent.wasm"), &json!(Digest::of(&bytes)))
    );
    assert_eq!(fs::read(document["path"].as_str().unwrap()).unwrap(), bytes);
    place.run(&["plugin", "inspect", "acme/agen"]).code(5).says(&["known are acme/agent, "]);

    // Both a path and an id: said, and either can be named.
    for (id, what) in [("acme/agent", "an installed plugin"), ("secret-scan", "a built-in plugin")] {
        fs::create_dir_all(place.path().join(id)).unwrap();
        place.run(&["plugin", "inspect", id]).code(2).says(&[
            what,
            &format!("./{id}"),
            &format!("--id {id}"),
        ]);
        place.run(&["plugin", "inspect", &format!("./{id}")]).code(2).says(&["is no plugin's directory"]);
        place.run(&["plugin", "inspect", "--id", id]).code(0);
    }
    place.run(&["plugin", "inspect", "--id", "Acme/agent"]).code(2).says(&["is no id"]);

    fs::remove_file(stored(&place, &bytes)).unwrap();
    place.run(&["plugin", "inspect", "--id", "acme/agent"]).code(1).says(&["pangolin plugin rebuild"]);
}

#[test]
fn a_wider_grant_makes_it_inert_until_it_is_approved() {
    let place = initialised();
    place.write("suite.wasm", suite(NEEDS));
    grant(&place, "exec = [{ program = 'cargo', args = ['test', '--lib'] }]");
    add(&place, &["suite.wasm", "--yes"]).code(0);
    assert_eq!(listed(&place, "acme/suite")["grant"], json!(["exec cargo test --lib"]));
    grant(&place, "exec = []");
    assert_eq!(listed(&place, "acme/suite")["state"], "ready", "less than approved needs no approval");
    grant(&place, "exec = [{ program = 'cargo', args = ['test', '**'] }]");
    let line = listed(&place, "acme/suite");
    assert_eq!(line["state"], "inert");
    let problem = line["problem"].as_str().unwrap();
    assert!(
        problem.contains("exec cargo test **") && problem.contains("`pangolin plugin add acme/suite`"),
        "{problem}"
    );
    let asked = place.run(&["plugin", "add", "acme/suite"]).code(2);
    insta::assert_snapshot!("plugin-add-wider", asked.shown());
    assert_eq!(listed(&place, "acme/suite")["state"], "inert");
    add(&place, &["acme/suite", "--yes"]).code(0);
    assert_eq!(listed(&place, "acme/suite")["state"], "ready");
}

#[test]
fn everything_asked_for_can_be_granted_at_once() {
    let place = initialised();
    place.write("suite.wasm", suite(NEEDS));
    let before = fs::read_to_string(place.path().join("pangolin.toml")).unwrap();
    add(&place, &["suite.wasm", "--grant-asked"]).code(2).says(&["approving adds to pangolin.toml"]);
    assert_eq!(fs::read_to_string(place.path().join("pangolin.toml")).unwrap(), before);
    add(&place, &["suite.wasm", "--grant-asked", "--yes"]).code(0);
    let line = listed(&place, "acme/suite");
    assert_eq!(
        (&line["state"], &line["grant"]),
        (&json!("ready"), &json!(["exec cargo test **", "read workspace/**"]))
    );
    place.write("suite.wasm", suite(&NEEDS.replace("cargo", "make")));
    add(&place, &["suite.wasm", "--grant-asked", "--yes"])
        .code(2)
        .says(&["has a [plugins.\"acme/suite\"] table already"]);
}

#[test]
fn a_swapped_component_is_an_integrity_failure_and_can_be_restored() {
    let place = initialised();
    let (bytes, other) = (agent(), suite(NEEDS));
    place.write("agent.wasm", &bytes);
    add(&place, &["agent.wasm", "--yes"]).code(0);
    fs::write(stored(&place, &bytes), &other).unwrap();
    let line = listed(&place, "acme/agent");
    let problem = line["problem"].as_str().unwrap();
    assert_eq!(line["state"], "refused");
    for digest in [Digest::of(&bytes), Digest::of(&other)] {
        assert!(problem.contains(&digest.to_string()), "{problem}");
    }
    fs::remove_file(stored(&place, &bytes)).unwrap();
    assert_eq!(listed(&place, "acme/agent")["state"], "missing");
    let done = place.run(&["plugin", "rebuild", "acme/agent", "--json"]).code(0).json();
    let line = done["plugins"].as_array().unwrap().iter().find(|line| line["id"] == "acme/agent").unwrap();
    assert_eq!((&line["fetched"], &line["code"]), (&json!(true), &json!("compiled")));
    assert_eq!(listed(&place, "acme/agent")["state"], "ready");
    let again = place.run(&["plugin", "rebuild", "acme/agent", "--json"]).code(0).json();
    assert!(again["plugins"].as_array().unwrap().iter().all(|line| line["fetched"] == false), "{again}");
    // A lock that names other bytes than those that were approved.
    let lock = fs::read_to_string(place.path().join("pangolin.lock")).unwrap();
    let forged = lock.replace(&Digest::of(&bytes).to_string(), &Digest::of(&other).to_string());
    fs::write(place.path().join("pangolin.lock"), forged).unwrap();
    fs::write(stored(&place, &other), &other).unwrap();
    let problem = listed(&place, "acme/agent")["problem"].to_string();
    assert!(problem.contains("acme/suite"), "{problem}");
    fs::write(place.path().join("pangolin.lock"), "<<<<<<< ours\n").unwrap();
    place.run(&["plugin", "list"]).code(2).says(&["pangolin.lock", "restore it from version control"]);
    place.write("plan.json", json!({ "id": "r", "queue": "default", "items": [] }).to_string());
    place.run(&["orch", "validate", "plan.json"]).code(1);
}

#[test]
fn what_cannot_be_a_plugin_is_refused_with_its_reason() {
    let place = initialised();
    let refused = |bytes: &[u8], code: i32, says: &str| {
        place.write("x.wasm", bytes);
        add(&place, &["x.wasm", "--yes"]).code(code).says(&[says]);
    };
    refused(b"MZ", 1, "not a WebAssembly component");
    refused(&wat::parse_str("(module)").unwrap(), 1, "core module");
    refused(&wat::parse_str("(component)").unwrap(), 1, "has no manifest");
    refused(&suite(""), 1, "asks for no exec");
    refused(&block("secret-scan", NEEDS), 2, "has no owner");
    let mut two = suite(NEEDS);
    let section = wasm_encoder::CustomSection { name: MANIFEST_SECTION.into(), data: (&b"{}"[..]).into() };
    wasm_encoder::ComponentSection::append_to_component(&section, &mut two);
    refused(&two, 1, "2 manifest sections");
    place.write("x.wasm", suite(NEEDS));
    let zero = format!("sha256:{}", "0".repeat(64));
    add(&place, &["x.wasm", "--yes", "--sha256", &zero]).code(1).says(&["nothing was installed"]);
    add(&place, &["http://example.com/x.wasm"]).code(2).says(&["plain http is for loopback only"]);
    add(&place, &["https://example.com/x.wasm"]).code(2).says(&["needs --sha256"]);
    add(&place, &["missing.wasm"]).code(1).says(&["missing.wasm"]);
    assert!(!place.path().join("pangolin.lock").exists());
    fs::write(
        place.path().join("pangolin.toml"),
        fs::read_to_string(place.path().join("pangolin.toml")).unwrap()
            + "\n[plugins.\"../x\".grant]\n[plugins.\"a/b\".grant]\nexec = [{ program = '*' }]\ngpu = 1\n",
    )
    .unwrap();
    place.run(&["plugin", "list"]).code(2).says(&["../x", "plugins.\"a/b\".grant.exec[0].program", "gpu"]);
}

#[test]
fn an_operator_can_demand_signatures_and_cut_grants() {
    let place = initialised();
    let bytes = suite(NEEDS);
    place.write("suite.wasm", &bytes);
    grant(&place, "exec = [{ program = 'cargo', args = ['test', '**'] }]\nread = ['workspace/**']");
    let (ours, theirs) = (SigningKey::from_bytes(&[1; 32]), SigningKey::from_bytes(&[2; 32]));
    let key = BASE64_STANDARD.encode(ours.verifying_key().as_bytes());
    let policy = place.write(
        "policy.toml",
        format!("ids = ['acme/*']\n[allow]\nread = ['workspace/src/**']\n[signature]\nkeys = [{{ id = 'ours', key = '{key}' }}]\n"),
    );
    let run = |arguments: &[&str]| {
        let mut command = place.command(arguments);
        command.env("PANGOLIN_POLICY", &policy);
        let output = command.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Output { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    };
    let add = ["plugin", "add", "suite.wasm", "--yes", "--json"];
    run(&add).code(1).says(&["wants a signature of ours"]);
    place.write("suite.wasm.sig", sign("ours", &theirs, &Digest::of(&bytes)));
    run(&add).code(1).says(&["does not fit component"]);
    place.write("suite.wasm.sig", sign("ours", &ours, &Digest::of(&bytes)));
    let added = run(&add).code(0).json();
    assert_eq!((&added["signer"], &added["locked"]["signer"]), (&json!("ours"), &json!("ours")));
    assert_eq!(added["grant"], json!({ "read": ["workspace/src/**"] }));
    assert!(added["cuts"].as_array().unwrap().iter().all(|cut| cut["by"] == "operator"), "{added}");
    // A revoked key stops what it signed; without the policy the project's grant is wider than what was approved.
    place.write("policy.toml", "allow = 'project'\n[signature]\nkeys = []\n");
    let all = run(&["plugin", "list", "--json"]).code(0).json();
    let line =
        all["plugins"].as_array().unwrap().iter().find(|line| line["id"] == "acme/suite").unwrap().clone();
    assert_eq!(line["state"], "refused", "{line}");
    assert_eq!(listed(&place, "acme/suite")["state"], "inert");
    place.write("policy.toml", "allow = 'everything'");
    run(&["plugin", "list"]).code(2).says(&["policy.toml", "allow"]);
    fs::remove_file(&policy).unwrap();
    run(&["plugin", "list"]).code(2).says(&["cannot read the operator policy"]);
}

#[test]
fn a_run_that_needs_an_inert_plugin_is_refused_with_the_command_that_approves() {
    let place = initialised();
    place.write("agent.wasm", agent());
    let cap = |cap: &str| {
        let file = place.path().join("pangolin.toml");
        let text = fs::read_to_string(&file).unwrap();
        let before = text.split("\n[plugins").next().unwrap();
        fs::write(&file, format!("{before}\n[plugins.\"acme/agent\".limits]\nmemory = '{cap}'\n")).unwrap();
    };
    cap("16MiB");
    add(&place, &["agent.wasm", "--yes"]).code(0);
    let register =
        ["subagent", "register", "--name", "s", "--adapter", "acme/agent", "--param", "argv=[\"sh\"]"];
    place.run(&register).code(0);
    let plan = |id: &str| {
        let item = json!({ "id": "a", "executor": "dispatch", "inputs": { "subagent": "s" }, "depends_on": [], "resourceLocks": [] });
        place.write("plan.json", json!({ "id": id, "queue": "default", "items": [item] }).to_string());
    };
    let _daemon = Daemon::start(&place);
    cap("24MiB");
    plan("first");
    let refused = place.run(&["orch", "submit", "plan.json"]).code(1);
    assert_eq!(refused.stdout, "");
    refused.says(&["plugin acme/agent is inert", "memory bytes", "`pangolin plugin add acme/agent`"]);
    add(&place, &["acme/agent", "--yes"]).code(0);
    plan("second");
    let taken = place.run(&["orch", "submit", "plan.json"]);
    assert!(!taken.stderr.contains("inert"), "the same daemon knows of the approval: {}", taken.stderr);
}
