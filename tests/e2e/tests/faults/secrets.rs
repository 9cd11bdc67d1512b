//! A secret that the agent prints everywhere.

use std::fs;

use pangolin_e2e::world::{World, item};
use serde_json::{Value, json};

use crate::support::{self, blob};

const SECRET: &str = "hush-9f27c1e0-do-not-tell";

fn submit(world: &World, run: &str, script: &str) -> String {
    let secret = format!("TOKEN=inline:{SECRET}");
    world.run(&["env", "register", "--name", "models", "--secret", &secret]).ok();
    world.agent(run, script);
    let inputs = json!({ "subagent": run, "env": ["models"] });
    let plan = world.plan(run, &[("a", run, &[])], &json!({ "inputs": inputs, "maxAttempts": 1 }));
    world.run(&["orch", "submit", &plan]).ok();
    plan
}

fn holds(bytes: &[u8]) -> bool {
    bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes())
}

#[test]
fn a_printed_secret_is_in_no_log_entry_or_view_and_flagged_where_bytes_are_exact() {
    let world = support::world();
    let _daemon = world.serve();
    submit(
        &world,
        "leak-1",
        "[ \"$TOKEN\" ] || exit 5; echo out $TOKEN; echo err $TOKEN >&2; printf 'hush-9f27c1e0' ; printf -- '-do-not-tell\\n'; \
         mkdir -p outputs; echo $TOKEN > outputs/leak.txt; echo clean > outputs/clean.txt; echo $TOKEN > leak.txt",
    );
    let mut watch = world.watch("leak-1");
    let end = watch.until("the end", |line| line["kind"] == "run" && line["terminal"] == true);
    assert_eq!(end["state"], "done", "{:#}", world.status("leak-1"));
    let seen = serde_json::to_string(&watch.seen).expect("lines");
    assert!(!holds(seen.as_bytes()), "watch");

    let run = world.status("leak-1");
    assert!(!holds(run.to_string().as_bytes()), "status");
    let attempt = &item(&run, "a")["attempts"][0];
    let mut shown = Vec::new();
    for arguments in [
        &["orch", "logs", "leak-1/a"][..],
        &["orch", "logs", "leak-1/a", "--stderr"],
        &["orch", "logs", "leak-1/a", "--events"],
        &["orch", "status", "leak-1"],
        &["env", "get", "models"],
        &["patch", "list", "leak-1"],
    ] {
        let output = world.run(arguments).ok();
        assert!(!holds(&output.stdout) && !holds(output.stderr.as_bytes()), "{arguments:?}");
        shown.push(output.text());
    }
    assert!(shown[0].contains("out <redacted:secret>"), "{}", shown[0]);
    assert!(shown[1].contains("err <redacted:secret>"), "{}", shown[1]);

    // Patches and outputs are exact bytes: there, and only there, the value is kept, and it is said.
    let patch = attempt["patch"].as_str().expect("patch").to_owned();
    let output = attempt["outputs"]["leak.txt"].as_str().expect("output").to_owned();
    let allowed = [blob(&world, &patch), blob(&world, &output), world.path().join(".pangolin/secrets")];
    world.until_cleaned_up();
    let mut holders = Vec::new();
    walk(&world.path().join(".pangolin"), &mut |path, bytes| {
        if holds(bytes) && !allowed.iter().any(|allowed| path.starts_with(allowed)) {
            holders.push(path.display().to_string());
        }
    });
    assert_eq!(holders, Vec::<String>::new());
    let result = fs::read(blob(&world, attempt["result"].as_str().expect("result"))).expect("result");
    let result: Value = serde_json::from_slice(&result).expect("result");
    assert_eq!(result["secrets_in"], json!(["outputs/leak.txt", "patch"]), "{result:#}");
    let list = world.run(&["patch", "list", "leak-1", "--json"]).ok().json();
    assert!(list["patches"][0]["flags"].to_string().contains("\"secret\""), "{list}");
    assert!(shown[5].contains("secret"), "{}", shown[5]);

    // The bundle carries these two objects; everything else in it is clean.
    let bundle = world.intact_bundle("leak-1");
    assert!(!holds(&bundle), "entries");
    let bundle: Value = serde_json::from_slice(&bundle).expect("bundle");
    assert!(bundle["objects"][&patch].is_string() && bundle["objects"][&output].is_string());
}

fn walk(dir: &std::path::Path, look: &mut impl FnMut(&std::path::Path, &[u8])) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => walk(&entry.path(), look),
            Ok(kind) if kind.is_file() => look(&entry.path(), &fs::read(entry.path()).unwrap_or_default()),
            _ => {}
        }
    }
}

#[test]
fn a_secret_in_a_failure_message_is_replaced() {
    let world = support::world();
    let _daemon = world.serve();
    submit(&world, "leak-2", "echo broken because of $TOKEN >&2; exit 3");
    let run = world.finish("leak-2");
    assert_eq!(run["state"], "failed");
    assert!(!holds(run.to_string().as_bytes()), "{run:#}");
    assert!(!holds(&world.intact_bundle("leak-2")));
}
