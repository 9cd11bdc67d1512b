//! What the agent can find out.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, process::Command};

use pangolin_ports::worker_backend::{WorkerBackend, WorkerExit};

use crate::harness::{BUCKET, IMAGE, KEY, World, ended, result, stand_in, until_started, worker};

/// A stand-in whose worker is an ordinary user without any capability, as in a task. `None`, loudly, where that cannot be.
#[expect(clippy::print_stderr, reason = "a skipped test must be seen")]
fn as_in_a_task(world: &World) -> Option<PathBuf> {
    let root = nix::unistd::geteuid().is_root();
    if !root || !Command::new("setpriv").arg("--version").output().is_ok_and(|output| output.status.success())
    {
        eprintln!("SKIPPED: only root with setpriv can start the worker as another user");
        return None;
    }
    let user = 3_000_000 + std::process::id();
    let own = world.dir.path().join("worker");
    fs::copy(worker(), &own).unwrap();
    let path = world.dir.path().join("entry");
    let script = format!(
        "#!/bin/sh\nchmod 755 \"$PANGOLIN_TASK_DIR/..\" \"$PANGOLIN_TASK_DIR/../..\"\nchown {user}:{user} \"$PANGOLIN_TASK_DIR\"\n\
         exec setpriv --reuid={user} --regid={user} --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all {}\n",
        own.display()
    );
    fs::write(&path, script).unwrap();
    for path in [&path, &own, &world.dir.path().to_owned()] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    Some(path)
}

/// Everything that an agent of the same user can read: its variables, those of every process, their memory maps, every
/// file of the task.
const SPY: &str = r#"
env > seen.env
cat /proc/[0-9]*/environ > seen.environ 2> seen.errors
cat /proc/[0-9]*/cmdline > seen.cmdline 2>> seen.errors
ls -l /proc/[0-9]*/fd > seen.fds 2>> seen.errors
for pid in $PPID $(cat /proc/$PPID/status | sed -n 's/^PPid:\s*//p'); do
  head -c 1 /proc/$pid/mem > /dev/null 2>> seen.denied || echo "denied $pid" >> seen.denied
done
cat ../envelope/* ../envelope/blobs/* > seen.files 2>> seen.errors
find .. -type f > seen.tree 2>> seen.errors
exit 0
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_agent_sees_neither_urls_nor_the_key() {
    let world = World::new().await;
    let Some(entry) = as_in_a_task(&world) else { return };
    world.ecs.add_image(IMAGE, stand_in(entry));
    let spec = world.stage("spy", SPY);
    // The agent is another user: it must be able to leave its marks.
    fs::set_permissions(spec.envelope_dir.parent().unwrap(), fs::Permissions::from_mode(0o777)).unwrap();
    let backend = world.open();
    backend.ensure(&spec).await.unwrap();
    assert_eq!(ended(&backend, &spec).await, WorkerExit::Exited { code: 0 }, "{}", world.log(&spec));
    result(&spec);
    let after = spec.result_dir.join("capture/after");
    let read = |name: &str| String::from_utf8_lossy(&fs::read(after.join(name)).unwrap()).into_owned();
    assert!(
        read("seen.env").contains("TOKEN=hunter2-hunter2"),
        "the spy sees what it may: {}",
        read("seen.env")
    );
    assert!(read("seen.environ").contains("TOKEN=hunter2-hunter2"), "the spy can read variables of its own");
    assert!(read("seen.files").contains("\"dispatch\""), "the spy can read the envelope");
    assert!(!read("seen.denied").is_empty(), "the memory of the workers is open");
    for entry in fs::read_dir(&after).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        let text = read(&name);
        for secret in ["X-Amz-Signature", "PANGOLIN_START_URL", "PANGOLIN_RESULT_KEY", KEY, "ECS_CONTAINER"] {
            assert!(!text.contains(secret), "{name} holds {secret}");
        }
    }
    let log = world.log(&spec);
    assert!(!log.contains("X-Amz") && !log.contains(KEY) && !log.contains("hunter2"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_are_no_blobs_and_the_start_document_goes() {
    let world = World::new().await;
    let spec = world.gated("secrets", 0);
    let backend = world.open();
    backend.ensure(&spec).await.unwrap();
    until_started(&spec).await;
    assert_eq!(backend.poll(&spec.dispatch).await.unwrap(), None);
    let keys = world.s3.keys(BUCKET);
    assert!(
        !keys.iter().any(|key| key.starts_with("starts/")),
        "the worker began, so nobody needs it: {keys:?}"
    );
    for key in keys {
        let bytes = world.s3.versions(BUCKET, &key).pop().unwrap().bytes.unwrap();
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains("hunter2") && !text.contains(KEY) && !text.contains("X-Amz"), "{key}");
    }
    let shown = format!("{backend:?}");
    assert!(!shown.contains("hunter2") && !shown.contains(KEY));
    crate::harness::open_gate(&spec);
    assert_eq!(ended(&backend, &spec).await, WorkerExit::Exited { code: 0 });
}
