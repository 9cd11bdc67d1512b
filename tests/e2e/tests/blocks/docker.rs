//! The blocks that ship, in a container: an image with a shell and nothing of Pangolin, the worker mounted into it.
//!
//! Without a Docker engine, or a static busybox to make the image from, the test says loudly that it is skipped; with
//! `PANGOLIN_REQUIRE_DOCKER` it fails.

use std::{
    fs,
    os::unix::fs::symlink,
    path::PathBuf,
    process::{Command, Stdio},
};

use pangolin_e2e::world::{World, item};
use serde_json::{Value, json};

use crate::support::{self, document, last, pipeline, planned, sealed};

const IMAGE: &str = "pangolin-blocks:local";

const CONFIG: &str = "namespace = \"e2e\"
[workspace]
repo = \"repo\"
[queues.default]
concurrency = 1
[executors.dispatch]
backend = \"docker\"
image = \"pangolin-blocks:local\"
grace_seconds = 2
[retry]
max_attempts = 1
base_ms = 50
cap_ms = 100
timeout_seconds = 60
";

/// Shape of a private key, put together here so that nobody's scanner finds one in this file.
fn key() -> String {
    format!("AKIA{}", "Z7QW3ERT5YUI2OPA")
}

fn docker(arguments: &[&str]) -> Command {
    let mut command = Command::new("docker");
    command.args(arguments).stdin(Stdio::null());
    command
}

fn busybox() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join("busybox")).find(|file| file.is_file())
}

/// Imports an image from scratch with a static shell. `Err`: why that is not possible here.
fn import() -> Result<(), String> {
    let answers = docker(&["version", "--format", "{{.Server.Version}}"]).output();
    if !answers.is_ok_and(|output| output.status.success()) {
        return Err("no Docker engine answers".to_owned());
    }
    let busybox = busybox().ok_or("there is no busybox on PATH to make an image from")?;
    let root = tempfile::tempdir().expect("temporary directory");
    for directory in ["bin", "etc", "tmp", "proc", "dev", "sys", "workspace"] {
        fs::create_dir(root.path().join(directory)).expect("directory");
    }
    fs::copy(&busybox, root.path().join("bin/busybox")).expect("busybox");
    for applet in ["sh", "cat", "mkdir", "printf", "ls", "true", "env"] {
        symlink("busybox", root.path().join("bin").join(applet)).expect("link");
    }
    let mut tar = Command::new("tar")
        .args(["--numeric-owner", "--owner=0", "--group=0", "-c", "."])
        .current_dir(root.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("tar");
    let archive = tar.stdout.take().expect("archive");
    let import =
        docker(&["import", "--change", "ENV PATH=/bin", "-", IMAGE]).stdin(archive).output().expect("docker");
    assert!(tar.wait().expect("tar").success());
    assert!(import.status.success(), "{}", String::from_utf8_lossy(&import.stderr));
    let runs = docker(&["run", "--rm", "--network", "none", IMAGE, "/bin/sh", "-c", "true"])
        .output()
        .expect("docker");
    if !runs.status.success() {
        let why = String::from_utf8_lossy(&runs.stderr).into_owned();
        return Err(format!("{} is no static shell: {why}", busybox.display()));
    }
    Ok(())
}

/// A deployment whose workers are containers. `None`: skipped, and it says so.
#[expect(clippy::print_stderr, reason = "a skipped test must be seen")]
fn world() -> Option<World> {
    match import() {
        Ok(()) => {
            let world = World::new();
            world.write("pangolin.toml", CONFIG);
            Some(world)
        }
        Err(why) if std::env::var_os("PANGOLIN_REQUIRE_DOCKER").is_some() => panic!("{why}"),
        Err(why) => {
            eprintln!("SKIPPED: blocks in containers: {why}");
            None
        }
    }
}

const JUNIT: &str =
    r#"<testsuite name="s" tests="2" failures="0"><testcase name="a"/><testcase name="b"/></testsuite>"#;

fn shipped() -> [Value; 3] {
    [
        json!({ "kind": "plugin", "plugin": "secret-scan" }),
        json!({ "kind": "plugin", "plugin": "diff-policy", "params": { "allow": ["src/**", "reports/**"] } }),
        json!({ "kind": "plugin", "plugin": "test-report",
            "params": { "files": ["outputs/junit.xml"], "require": { "minTests": 2 } } }),
    ]
}

#[test]
fn the_blocks_that_ship_judge_in_a_container() {
    let Some(world) = world() else { return };
    let agent = |name: &str, more: &str| {
        let report = format!("mkdir -p src outputs; printf '%s' '{JUNIT}' > outputs/junit.xml;");
        world.agent(name, &format!("{report} echo 'fn main() {{}}' > src/main.rs; {more}"));
    };
    agent("good", "true");
    agent("leaky", &format!("echo 'key = \"{}\"' > src/key.txt", key()));
    agent("astray", "echo x > elsewhere.txt");
    agent(
        "failing",
        "printf '<testsuite name=\"s\"><testcase name=\"a\"><failure/></testcase></testsuite>' > outputs/junit.xml",
    );
    pipeline(&world, "judged", &shipped());
    let _daemon = world.serve();
    let items = ["good", "leaky", "astray", "failing"].map(|name| planned(name, name, "judged"));
    let run = support::run(&world, "docker-1", &items);

    let attempt = last(&run, "good");
    assert_eq!(item(&run, "good")["status"], "done", "{run:#}");
    assert_eq!(attempt["isolation"]["level"], "container");
    for (position, name) in [(1, "secret-scan"), (2, "diff-policy"), (3, "test-report")] {
        let record = sealed(&world, attempt, position);
        assert_eq!((&record["id"], &record["verdict"]["passed"]), (&json!(name), &json!(true)), "{record:#}");
        assert!(
            record["bill"]["read_bytes"].as_u64().is_some_and(|bytes| bytes > 0),
            "it looked: {record:#}"
        );
    }
    assert_eq!(sealed(&world, attempt, 3)["evidence"]["counts"]["passed"], 2);

    // Each of them finds what is its own to find.
    for (name, position, block, rule) in [
        ("leaky", 1, "secret-scan", Some("aws-access-key")),
        ("astray", 2, "diff-policy", Some("outside-allow")),
        ("failing", 3, "test-report", None),
    ] {
        assert_eq!(item(&run, name)["status"], "failed", "{name}: {run:#}");
        let attempt = last(&run, name);
        let failure = &attempt["failure"];
        assert_eq!(failure["class"], "work", "{failure}");
        assert!(failure["message"].as_str().is_some_and(|text| text.contains(block)), "{failure}");
        let record = sealed(&world, attempt, position);
        assert_eq!(record["verdict"]["passed"], false, "{record:#}");
        if let Some(rule) = rule {
            assert_eq!(record["evidence"]["findings"]["shown"][0]["rule"], rule, "{record:#}");
        }
        let blocks = document(&world, &attempt["result"])["worker"]["blocks"].as_array().map(Vec::len);
        // Only the captures of partial work follow a red gate, and these are no blocks of the pipeline.
        assert_eq!(blocks, Some(position + 1), "{name}");
    }
    assert_eq!(sealed(&world, last(&run, "failing"), 3)["evidence"]["counts"]["failed"], 1);
    // The finding names the secret's kind, never the secret; the patch has it and is flagged by the verdict.
    assert!(!document(&world, &last(&run, "leaky")["result"]).to_string().contains(&key()));
    let _ = world.intact_bundle("docker-1");
}

#[test]
fn a_block_of_a_third_party_works_and_fails_in_a_container() {
    let Some(world) = world() else { return };
    let rules = "read = ['workspace/**']\nwrite = ['reports/**']\nexec = [{ program = '/bin/sh', args = ['-c', '*'] }]";
    world.write("pangolin.toml", format!("{CONFIG}\n[plugins.\"{}\".grant]\n{rules}\n", support::PROBE));
    support::approve(&world, "1.0.0");
    world.agent("work", "echo work > work.txt");
    let steps = json!([
        ["exec", "/bin/sh", ["-c", "cat work.txt"]],
        ["read", "workspace/work.txt"],
        ["artifact", "reports/a.txt", "from a container"],
    ]);
    pipeline(&world, "works", &[support::step(&steps)]);
    pipeline(&world, "eats", &[support::step(&json!([["memory"]]))]);
    let _daemon = world.serve();
    let run = support::run(
        &world,
        "docker-2",
        &[planned("eats", "work", "eats"), planned("works", "work", "works")],
    );
    let eats = last(&run, "eats");
    assert_eq!(sealed(&world, eats, 1)["failure"]["code"], "memory-limit", "{run:#}");
    assert_eq!(eats["failure"]["class"], "invalid");
    assert_eq!(item(&run, "works")["status"], "done", "{run:#}");
    let works = last(&run, "works");
    let answers = sealed(&world, works, 1)["evidence"]["steps"].clone();
    assert_eq!((&answers[0]["stdout"], &answers[1]), (&json!("work\n"), &json!("work\n")));
    let list = document(&world, &works["blockArtifacts"]);
    let stored = support::blob(&world, list["artifacts"][0]["digest"].as_str().expect("digest"));
    assert_eq!(fs::read(stored).expect("artifact"), b"from a container");
    let _ = world.intact_bundle("docker-2");
}
