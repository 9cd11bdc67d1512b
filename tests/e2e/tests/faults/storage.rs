//! Disks that are full, databases that are locked, blobs that rot.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use pangolin_e2e::world::{World, item};
use serde_json::json;

use crate::support::{
    self, blob, dispatch, each_attempt_started_once, flip, hold, mark, release, until, until_marked,
};

/// A small file system.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None`, loudly, where this user must not mount.
    fn mount(path: &Path, bytes: u64) -> Option<Self> {
        fs::create_dir_all(path).expect("mount point");
        let data = format!("size={bytes},mode=700");
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        match mount(Some("tmpfs"), path, Some("tmpfs"), flags, Some(data.as_str())) {
            Ok(()) => Some(Self(path.to_owned())),
            Err(error) => {
                #[expect(clippy::print_stderr, reason = "a test that did not run says so")]
                {
                    eprintln!(
                        "SKIPPED: a small disk needs the right to mount a tmpfs (run as root): {error}"
                    );
                }
                None
            }
        }
    }

    /// Writes until nothing fits any more.
    fn fill(&self) {
        let mut file =
            OpenOptions::new().append(true).create(true).open(self.0.join("ballast")).expect("ballast");
        for size in [1 << 16, 1 << 12, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
        assert!(fs::write(self.0.join("one-more"), [0; 4096]).is_err(), "the disk is full");
        let _ = fs::remove_file(self.0.join("one-more"));
    }

    fn free(&self) {
        fs::remove_file(self.0.join("ballast")).expect("ballast");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

#[test]
fn a_full_disk_delays_but_loses_nothing() {
    let world = support::world();
    let state = world.path().join("small");
    let Some(disk) = SmallDisk::mount(&state, 24 << 20) else { return };
    let config = fs::read_to_string(world.path().join("pangolin.toml")).expect("config");
    let config = config.replace("namespace = \"e2e\"\n", "namespace = \"e2e\"\nstate = \"small\"\n");
    world.write(
        "pangolin.toml",
        config.replace("max_attempts = 2", "max_attempts = 100").replace("cap_ms = 100", "cap_ms = 500"),
    );
    world.run(&["init"]).ok();
    world.agent("slow", &format!("{} echo hello > hello.txt", hold(&world, "go")));
    world.agent("quick", "echo hello > $PANGOLIN_ITEM_ID.txt");
    let more = json!({ "executor": "open" });
    let mut daemon = world.serve();
    let plan = world.plan("full-1", &[("a", "slow", &[]), ("b", "quick", &["a"])], &more);
    world.run(&["orch", "submit", &plan]).ok();
    let running =
        state.join("dispatches").join(dispatch("full-1", "a", 1).as_str()).join("result/events.jsonl");
    until("the worker runs", || running.exists().then_some(()));
    // Waits in the inbox, so that its admission meets the full disk.
    let late = world.plan("full-2", &[("a", "quick", &[])], &more);

    disk.fill();
    let refused = world.run(&["orch", "submit", &late]).code(1);
    assert!(refused.stderr.contains("No space left"), "the submitter is told: {}", refused.stderr);
    release(&world, "go");
    daemon.until("work goes on when it can");
    // Reading works all the while.
    assert_eq!(world.status("full-1")["state"], "active");

    disk.free();
    let run = world.finish("full-1");
    assert_eq!(run["state"], "done", "{run:#}");
    let _ = world.intact_bundle("full-1");
    world.run(&["orch", "submit", &late]).ok();
    assert_eq!(world.finish("full-2")["state"], "done");
    let _ = world.intact_bundle("full-2");
    let (status, _) = daemon.stop(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(status.code(), Some(0), "the daemon lived through it");
}

#[test]
fn a_submission_that_meets_a_full_disk_is_admitted_when_there_is_room() {
    let world = support::world();
    let state = world.path().join("small");
    let Some(disk) = SmallDisk::mount(&state, 24 << 20) else { return };
    let config = fs::read_to_string(world.path().join("pangolin.toml")).expect("config");
    world.write(
        "pangolin.toml",
        config.replace("namespace = \"e2e\"\n", "namespace = \"e2e\"\nstate = \"small\"\n"),
    );
    world.run(&["init"]).ok();
    world.agent("quick", "echo hello > $PANGOLIN_ITEM_ID.txt");
    let plan = world.plan("wait-1", &[("a", "quick", &[])], &json!({}));
    world.run(&["orch", "submit", &plan]).ok();
    // Everything that the daemon needs at its start is made by a first one.
    let daemon = world.serve();
    assert_eq!(world.finish("wait-1")["state"], "done");
    drop(daemon);
    // Past the client: the message is there, the disk is full, and the daemon looks at it.
    let mut daemon = world.serve();
    let plan = json!({ "id": "wait-2", "queue": "default", "items": [
        { "id": "a", "executor": "dispatch", "inputs": { "subagent": "quick" }, "depends_on": [], "resourceLocks": [] }
    ] });
    let message = json!({ "v": 1, "kind": "submit", "actor": "test", "plan": plan.to_string() }).to_string();
    let hidden = state.join("inbox/waiting/.arriving");
    fs::write(&hidden, message).expect("message");
    disk.fill();
    fs::rename(&hidden, state.join("inbox/waiting/arrived")).expect("message");
    daemon.until("work goes on when it can");
    disk.free();
    until("the run is admitted", || state.join("inbox/accepted/arrived").exists().then_some(()));
    let run = world.finish("wait-2");
    assert_eq!(run["state"], "done", "{run:#}");
    let _ = world.intact_bundle("wait-2");
    drop(daemon);
}

#[test]
fn a_database_locked_by_somebody_else_delays_the_commits() {
    let world = support::world();
    world.agent("slow", &format!("{} {} echo hello > hello.txt", mark(&world), hold(&world, "go")));
    let mut daemon = world.serve();
    let plan =
        world.plan("lock-1", &[("a", "slow", &[]), ("b", "slow", &["a"])], &json!({ "executor": "open" }));
    world.run(&["orch", "submit", &plan]).ok();
    until_marked(&world, "lock-1", "a", 1);
    let locker = rusqlite::Connection::open(world.path().join(".pangolin/ledger.db")).expect("open");
    locker.execute_batch("BEGIN IMMEDIATE").expect("lock");
    release(&world, "go");
    daemon.until("work goes on when it can");
    assert_eq!(
        item(&world.status("lock-1"), "a")["status"],
        "running",
        "nothing is known before it is on record"
    );
    locker.execute_batch("ROLLBACK").expect("unlock");
    let run = world.finish("lock-1");
    assert_eq!(run["state"], "done", "{run:#}");
    each_attempt_started_once(&world, &[&run]);
    let _ = world.intact_bundle("lock-1");
}

fn damage(world: &World, digest: &serde_json::Value) -> String {
    let digest = digest.as_str().expect("digest").to_owned();
    flip(&blob(world, &digest), 0);
    digest
}

#[test]
fn a_damaged_input_fails_the_item_that_needs_it_and_nobody_else() {
    let world = support::world();
    world.agent("quick", "echo hello > $PANGOLIN_ITEM_ID.txt");
    world.agent("slow", &format!("{} true", hold(&world, "go")));
    let _daemon = world.serve();
    let items: [(&str, &str, &[&str]); 3] =
        [("a", "quick", &[]), ("hold", "slow", &[]), ("b", "quick", &["a", "hold"])];
    let plan = world.plan("rot-1", &items, &json!({ "executor": "open" }));
    world.run(&["orch", "submit", &plan]).ok();
    let done = world.watch("rot-1").until_item("a", "done");
    let digest = damage(&world, &done["item"]["resultRef"]);
    release(&world, "go");
    world.submit("sound-1", &[("other", "quick", &[])]);
    let run = world.finish("rot-1");
    let b = item(&run, "b");
    assert_eq!((run["state"].as_str(), b["status"].as_str()), (Some("failed"), Some("failed")), "{run:#}");
    let why = b["why"].as_str().expect("why");
    assert!(why.contains(&digest) && why.contains("damaged"), "{why}");
    assert_eq!(b["attempts"][0]["failure"]["reason"], "fetch-failed", "{run:#}");

    assert_eq!(world.finish("sound-1")["state"], "done");
    let _ = world.intact_bundle("sound-1");
    // The record stays exportable; it says which object it lacks.
    let audit = world.run(&["orch", "audit", "rot-1", "--out", "rot.json"]).code(4);
    assert!(audit.text().contains(&digest), "{}\n{}", audit.text(), audit.stderr);
    let verify = world.run(&["verify", "rot.json"]).code(4);
    assert!(verify.text().contains(&digest), "{}", verify.text());

    // Whoever makes the same bytes again repairs the blob, for both runs.
    world.submit("again-1", &[("a", "quick", &[])]);
    let again = world.finish("again-1");
    assert_eq!(item(&again, "a")["resultRef"], digest.as_str(), "{again:#}");
    let _ = world.intact_bundle("again-1");
    let _ = world.intact_bundle("rot-1");
}

#[test]
fn a_damaged_document_denies_the_item_with_a_reason() {
    let world = support::world();
    world.agent("quick", "echo hello > $PANGOLIN_ITEM_ID.txt");
    world.agent("slow", &format!("{} true", hold(&world, "go")));
    let registered = world.run(&[
        "subagent",
        "register",
        "--name",
        "other",
        "--adapter",
        "command",
        "--param",
        "argv=[\"true\"]",
    ]);
    let pinned = registered.ok().text();
    let digest = format!("sha256:{}", pinned.trim().rsplit(':').next().expect("digest"));
    let _daemon = world.serve();
    let items: [(&str, &str, &[&str]); 3] =
        [("hold", "slow", &[]), ("b", "other", &["hold"]), ("c", "quick", &["hold"])];
    let plan = world.plan("rot-2", &items, &json!({ "executor": "open" }));
    world.run(&["orch", "submit", &plan]).ok();
    world.watch("rot-2").until_item("hold", "running");
    flip(&blob(&world, &digest), 0);
    release(&world, "go");
    let run = world.finish("rot-2");
    let b = item(&run, "b");
    assert!(matches!(b["status"].as_str(), Some("denied" | "failed")), "{run:#}");
    let why = b["why"].as_str().expect("why");
    assert!(why.contains(&digest) && why.contains("damaged"), "{why}");
    assert_eq!(item(&run, "c")["status"], "done", "{run:#}");
    let _ = world.run(&["orch", "audit", "rot-2", "--out", "rot.json"]);
    let verify = world.run(&["verify", "rot.json"]);
    assert!(matches!(verify.code, Some(0 | 4)), "{}", verify.text());
}

#[test]
fn a_run_whose_plan_is_damaged_is_left_alone_and_named() {
    let world = support::world();
    world.agent("quick", "echo hello > $PANGOLIN_ITEM_ID.txt");
    world.agent("slow", &format!("{} true", hold(&world, "go")));
    let daemon = world.serve();
    let plan = world.plan("rot-3", &[("a", "slow", &[])], &json!({ "executor": "open" }));
    world.run(&["orch", "submit", &plan]).ok();
    world.watch("rot-3").until_item("a", "running");
    let digest =
        pangolin_core::ids::Digest::of(&fs::read(world.path().join(&plan)).expect("plan")).to_string();
    let (status, _) = daemon.stop(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(status.code(), Some(0));
    let good = fs::read(blob(&world, &digest)).expect("plan");
    flip(&blob(&world, &digest), good.len() / 2);

    let daemon = world.serve();
    world.submit("sound-3", &[("a", "quick", &[])]);
    assert_eq!(world.finish("sound-3")["state"], "done");
    let _ = world.intact_bundle("sound-3");
    let shown = world.run(&["orch", "status", "rot-3"]).code(1);
    assert!(shown.stderr.contains(&digest), "{}", shown.stderr);
    let _ = world.run(&["orch", "runs"]).ok();
    let audit = world.run(&["orch", "audit", "rot-3", "--out", "rot.json"]);
    assert_eq!(audit.code, Some(4), "{}", audit.stderr);
    assert!(audit.text().contains(&digest), "{}", audit.text());
    let _ = daemon.stop(nix::sys::signal::Signal::SIGTERM);

    // With the blob back from a backup, the run goes on with the worker that is still there.
    fs::write(blob(&world, &digest), good).expect("restore");
    release(&world, "go");
    let daemon = world.serve();
    let run = world.finish("rot-3");
    assert_eq!(run["state"], "done", "{run:#}");
    assert_eq!(item(&run, "a")["attempts"].as_array().map(Vec::len), Some(1), "{run:#}");
    let _ = world.intact_bundle("rot-3");
    drop(daemon);
}
