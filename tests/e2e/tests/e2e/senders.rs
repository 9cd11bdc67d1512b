//! Deployments that take signed messages only.

use pangolin_e2e::world::World;

#[test]
fn only_a_known_sender_submits_and_the_record_says_who() {
    let world = World::new();
    world.agent("quick", "true");
    let made = world.run(&["sender", "new", "alice", "--out", "alice.key"]).ok();
    let section = made.text();
    assert!(section.starts_with("[senders]\nalice = \"alice+"), "{section}");
    let config = std::fs::read_to_string(world.path().join("pangolin.toml")).expect("a configuration");
    world.write("pangolin.toml", format!("{config}\n{section}"));
    // The same name, another key.
    world.run(&["sender", "new", "alice", "--out", "stranger.key"]).ok();
    let _ = world
        .run(&["sender", "new", "alice", "--out", "alice.key"])
        .code(2)
        .says(&["alice.key", "never replaced"]);
    let _daemon = world.serve();

    let plan = world.plan("signed-1", &[("one", "quick", &[])], &serde_json::json!({}));
    let _ = world.run(&["orch", "submit", &plan]).code(1).says(&["not signed", "PANGOLIN_SENDER_KEY"]);
    let stranger = ["orch", "submit", &plan, "--sender-key", "stranger.key"];
    let _ = world.run(&stranger).code(1).says(&["not in [senders]"]);
    // What somebody says about himself does not count.
    world.run(&["orch", "submit", &plan, "--sender-key", "alice.key", "--actor", "human:mallory"]).ok();
    let run = world.finish("signed-1");
    assert_eq!((run["state"].as_str(), run["actor"].as_str()), (Some("done"), Some("key:alice")), "{run:#}");
    let bundle = String::from_utf8(world.intact_bundle("signed-1")).expect("text");
    assert!(
        bundle.contains("key:alice") && !bundle.contains("mallory"),
        "the sealed record names the sender"
    );
    let _ = world
        .run(&["orch", "cancel", "signed-1", "--sender-key", "gone.key"])
        .says(&["gone.key", "pangolin sender new"]);
}
