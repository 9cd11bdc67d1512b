//! The agent does its work.

use pangolin_e2e::world::item;
use pangolin_model_server::{
    CACHE_READ_TOKENS, CACHE_WRITE_TOKENS, INPUT_TOKENS, OUTPUT_TOKENS, Script, edit_marker,
};
use serde_json::{Value, json};

use crate::session::{ITEM, MODELS, Session, only_attempt};

#[test]
fn an_edit_is_delivered_as_a_patch_with_exact_usage() {
    let Some(session) = Session::start(Script::Edit) else { return };
    session.agent("agent", &["--system-prompt", "You edit files."]);
    let task = format!("Please. {}", edit_marker("README.md", "edited by the agent"));
    let run = session.run("edit-1", &task, &[MODELS], &json!({}));
    assert_eq!((&run["state"], &item(&run, ITEM)["why"]), (&json!("done"), &json!("delivered")), "{run:#}");

    let patch = session.world.run(&["patch", "show", "edit-1/work"]).ok().text();
    assert!(patch.contains("+edited by the agent"), "{patch}");
    assert_eq!(patch.matches("diff --git").count(), 1, "nothing but the edit is in the patch: {patch}");

    // What the model sent, counted at the model.
    let turns = session.turns();
    let asked = turns.len() as u64;
    assert!(asked >= 2, "{turns:#?}");
    let attempt = only_attempt(&run);
    let usage = &attempt["usage"];
    assert_eq!(usage["quality"], "exact", "{attempt:#}");
    let expected = [
        ("input", INPUT_TOKENS),
        ("cache_write", CACHE_WRITE_TOKENS),
        ("cached_read", CACHE_READ_TOKENS),
        ("output", OUTPUT_TOKENS),
    ];
    for (counter, each) in expected {
        assert_eq!(usage["counters"][counter], each * asked, "{counter} of {asked} answers: {usage:#}");
    }
    let mut models: Vec<&str> = turns.iter().filter_map(|seen| seen.body["model"].as_str()).collect();
    models.sort_unstable();
    models.dedup();
    assert_eq!(usage["models"], json!(models));
    assert!(models.iter().any(|model| model.contains("sonnet")), "level standard: {models:?}");

    // The price is the program's; it must arrive unchanged.
    let transcript = session.transcript("edit-1", 1);
    let result = transcript.iter().rfind(|event| event["type"] == "result").expect("result event");
    let cost = (result["total_cost_usd"].as_f64().expect("cost") * 1e6).round();
    assert!(cost > 0.0);
    assert_eq!(usage["cost_microusd"].as_f64(), Some(cost));
    assert_eq!((run["costMicrousd"].as_f64(), &run["costComplete"]), (Some(cost), &json!(true)));

    let isolation = &attempt["isolation"];
    assert_eq!(
        (&isolation["level"], &isolation["network"]),
        (&json!("sandbox"), &json!("host")),
        "{isolation:#}"
    );
    let prompts = turns.iter().filter(|seen| seen.body["system"].to_string().contains("You edit files."));
    assert!(prompts.count() >= 2, "the system prompt reached the model");
}

#[test]
fn every_dispatch_has_a_home_of_its_own() {
    let Some(session) = Session::start(Script::Edit) else { return };
    // Runs in the same home after the agent: exactly one session was ever recorded there.
    let verify = "set -e; cd; pwd; ls -A; n=$(find .claude/projects -name '*.jsonl' | wc -l); test $n -eq 1";
    session.agent("agent", &["--verify", verify]);
    // What a repository brings along must not become the agent's own configuration.
    session.world.write("repo/.pangolin/home/.claude/CLAUDE.md", "PLANTED INSTRUCTION\n");
    session.world.git(&["add", "--all"]);
    session.world.git(&[
        "-c",
        "user.name=e2e",
        "-c",
        "user.email=e2e@localhost",
        "commit",
        "--quiet",
        "--message=planted",
    ]);
    let items: Vec<Value> = ["a", "b"]
        .map(|id| {
            let task = edit_marker(&format!("{id}.txt"), id);
            Session::item(id, "agent", &task, &[MODELS], &json!({}))
        })
        .into();
    session.submit("homes-1", &items).until_terminal();
    let run = session.sealed("homes-1");
    let mut sessions = Vec::new();
    for id in ["a", "b"] {
        let item = item(&run, id);
        assert_eq!(item["status"], "done", "{run:#}");
        assert_eq!(item["verify"]["passed"], true, "{run:#}");
        let patch = session.world.run(&["patch", "show", &format!("homes-1/{id}")]).ok().text();
        assert!(
            patch.contains(&format!("+++ b/{id}.txt")) && patch.matches("diff --git").count() == 1,
            "{patch}"
        );
        let log = session.world.run(&["orch", "logs", &format!("homes-1/{id}")]).ok().text();
        let first: Value = serde_json::from_str(log.lines().next().expect("event")).expect("JSON");
        sessions.push(first["session_id"].as_str().expect("session").to_owned());
    }
    assert_ne!(sessions[0], sessions[1]);
    for seen in session.turns() {
        assert!(!seen.body.to_string().contains("PLANTED"), "{:#}", seen.body);
    }
    for name in [".claude", ".claude.json"] {
        assert!(!session.world.path().join(name).exists(), "{name} in the home of the daemon's user");
    }
}
