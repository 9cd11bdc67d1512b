//! What is special about containers: images, limits, stale containers, hostile result directories, an engine that
//! restarts. The restart needs a command in `PANGOLIN_TEST_DOCKERD_RESTART` that returns when the engine is gone or
//! back; it runs last in its own process under `cargo nextest`, or alone: `cargo test --test faults restart`.

mod common;

use std::{os::unix::fs::MetadataExt, time::Duration};

use bollard::{
    models::ContainerCreateBody,
    query_parameters::{CreateContainerOptionsBuilder, RemoveContainerOptionsBuilder},
};
use common::{engine, open, stage, starts, until};
use pangolin_core::entry::Isolation;
use pangolin_ports::worker_backend::{BackendError, Limits, Network, WorkerBackend, WorkerExit};
use pangolin_worker_docker::{DockerBackend, DockerOptions};
use tempfile::tempdir;

const GATED: &str = r#"[{"do":"await-file","name":"go"},{"do":"exit","code":7}]"#;
const EXIT: &str = r#"[{"do":"exit","code":3}]"#;

#[tokio::test]
async fn a_missing_image_is_an_error_with_a_hint_and_starts_nothing() {
    if engine().await.is_none() {
        return;
    }
    let base = tempdir().expect("temporary directory");
    let backend = open().await;
    let mut spec = stage(&base, "image", EXIT);
    spec.image = Some("pangolin-no-such-image:1".to_owned());
    let error = backend.ensure(&spec).await.expect_err("no image");
    assert!(matches!(&error, BackendError::Image { .. }), "{error:?}");
    assert!(error.to_string().contains("docker pull pangolin-no-such-image:1"), "{error}");
    assert!(!backend.list().await.expect("list").contains(&spec.dispatch));
    spec.image = None;
    assert!(matches!(backend.ensure(&spec).await, Err(BackendError::Unsupported { .. })));
}

#[tokio::test]
async fn the_image_that_ran_and_the_mechanisms_are_reported() {
    let Some(docker) = engine().await else { return };
    let base = tempdir().expect("temporary directory");
    let spec = stage(&base, "sealed", EXIT);
    let backend = open().await;
    let started = backend.ensure(&spec).await.expect("ensure");
    let image = docker.inspect_image(common::IMAGE).await.expect("inspect").id;
    assert_eq!(started.isolation.image, image);
    for mechanism in
        ["cap-drop-all", "no-new-privs", "read-only-root", "netns", "cgroup-memory", "non-root-user"]
    {
        assert!(started.isolation.mechanisms.iter().any(|name| name == mechanism), "{mechanism}");
    }
    assert_eq!(backend.wait(&spec.dispatch).await.expect("wait"), WorkerExit::Exited { code: 3 });
    let container =
        docker.inspect_container(&format!("pangolin-{}", spec.dispatch), None).await.expect("inspect");
    let host = container.host_config.expect("has one");
    assert_eq!(host.memory, Some(256 << 20));
    assert_eq!(host.memory_swap, Some(256 << 20), "no swap");
    assert_eq!((host.nano_cpus, host.pids_limit), (Some(2_000_000_000), Some(512)));
    assert_eq!((host.readonly_rootfs, host.privileged), (Some(true), Some(false)));
    if std::fs::metadata(base.path()).expect("stat").uid() == 0 {
        assert_eq!(container.config.expect("has one").user.as_deref(), Some("65534:65534"));
        assert_eq!(std::fs::metadata(&spec.workspace_dir).expect("stat").uid(), 65_534);
    }
    backend.remove(&spec.dispatch).await.expect("remove");
}

#[tokio::test]
async fn a_container_created_before_a_crash_is_started_and_a_stranger_is_not() {
    let Some(docker) = engine().await else { return };
    let base = tempdir().expect("temporary directory");
    // As left by a host that died between create and start.
    let spec = stage(&base, "created", EXIT);
    let (backend, name) = (open().await, format!("pangolin-{}", spec.dispatch));
    backend.ensure(&spec).await.expect("ensure");
    backend.wait(&spec.dispatch).await.expect("wait");
    let config = docker.inspect_container(&name, None).await.expect("inspect");
    backend.remove(&spec.dispatch).await.expect("remove");
    std::fs::remove_file(spec.result_dir.join("starts")).expect("forget the first life");
    let (made, host) = (config.config.expect("config"), config.host_config);
    let body = ContainerCreateBody {
        image: made.image,
        entrypoint: made.entrypoint,
        env: made.env,
        user: made.user,
        labels: made.labels,
        host_config: host,
        ..ContainerCreateBody::default()
    };
    let options = CreateContainerOptionsBuilder::default().name(&name).build();
    docker.create_container(Some(options), body).await.expect("create");
    let next = open().await;
    assert!(
        matches!(next.wait(&spec.dispatch).await.expect("wait"), WorkerExit::Lost { .. }),
        "never started yet"
    );
    assert!(!next.ensure(&spec).await.expect("ensure").adopted);
    assert_eq!(next.wait(&spec.dispatch).await.expect("wait"), WorkerExit::Exited { code: 3 });
    assert_eq!(starts(&spec), 1);
    next.remove(&spec.dispatch).await.expect("remove");

    let spec = stage(&base, "stranger", EXIT);
    let name = format!("pangolin-{}", spec.dispatch);
    let body = ContainerCreateBody {
        image: Some(common::IMAGE.to_owned()),
        cmd: Some(vec!["/nothing".to_owned()]),
        ..ContainerCreateBody::default()
    };
    let options = CreateContainerOptionsBuilder::default().name(&name).build();
    docker.create_container(Some(options), body).await.expect("create");
    let error = next.ensure(&spec).await.expect_err("not ours");
    assert!(error.to_string().contains("not made by Pangolin"), "{error}");
    next.remove(&spec.dispatch).await.expect_err("not ours to remove");
    docker
        .remove_container(&name, Some(RemoveContainerOptionsBuilder::default().force(true).build()))
        .await
        .expect("remove");
}

#[tokio::test]
async fn out_of_memory_is_recognised() {
    if engine().await.is_none() {
        return;
    }
    let base = tempdir().expect("temporary directory");
    let mut spec = stage(&base, "greedy", r#"[{"do":"eat","bytes":268435456},{"do":"exit","code":0}]"#);
    spec.limits = Limits { memory_bytes: 32 << 20, ..spec.limits };
    let backend = open().await;
    backend.ensure(&spec).await.expect("ensure");
    assert_eq!(backend.wait(&spec.dispatch).await.expect("wait"), WorkerExit::Exited { code: 137 });
    let text = std::fs::read_to_string(spec.result_dir.join("worker.stderr")).expect("read");
    assert!(text.contains("memory limit of 33554432 bytes"), "{text}");
    backend.remove(&spec.dispatch).await.expect("remove");
}

#[tokio::test]
async fn a_symlink_planted_in_the_result_directory_is_replaced_not_followed() {
    if engine().await.is_none() {
        return;
    }
    let base = tempdir().expect("temporary directory");
    let victim = base.path().join("victim");
    std::fs::write(&victim, "precious").expect("write");
    let spec = stage(&base, "hostile", GATED);
    let backend = open().await;
    backend.ensure(&spec).await.expect("ensure");
    until("the worker runs", || starts(&spec) > 0).await;
    std::os::unix::fs::symlink(&victim, spec.result_dir.join("events.jsonl")).expect("plant a symlink");
    std::fs::create_dir(spec.result_dir.join("worker.stderr")).expect("plant a directory");
    std::fs::write(spec.workspace_dir.join("go"), b"").expect("open the gate");
    assert_eq!(backend.wait(&spec.dispatch).await.expect("wait"), WorkerExit::Exited { code: 7 });
    assert_eq!(std::fs::read_to_string(&victim).expect("read"), "precious");
    assert!(std::fs::symlink_metadata(spec.result_dir.join("events.jsonl")).expect("stat").is_file());
    assert!(std::fs::symlink_metadata(spec.result_dir.join("worker.stderr")).expect("stat").is_file());
    backend.remove(&spec.dispatch).await.expect("remove");
}

#[tokio::test]
async fn deployments_do_not_see_each_other_and_a_missing_engine_is_said_so() {
    if engine().await.is_none() {
        return;
    }
    let base = tempdir().expect("temporary directory");
    let spec = stage(&base, "mine", EXIT);
    let backend = open().await;
    backend.ensure(&spec).await.expect("ensure");
    let options = DockerOptions { deployment: "another".to_owned(), ..DockerOptions::new(common::worker()) };
    let another = DockerBackend::open(options).await.expect("open");
    assert!(!another.list().await.expect("list").contains(&spec.dispatch));
    backend.wait(&spec.dispatch).await.expect("wait");
    backend.remove(&spec.dispatch).await.expect("remove");
    let options =
        DockerOptions { socket: Some("/nonexistent/docker.sock".into()), ..DockerOptions::new("/worker") };
    let error = DockerBackend::open(options).await.err().expect("no engine there");
    assert!(error.to_string().contains("/nonexistent/docker.sock"), "{error}");
}

#[tokio::test]
async fn the_host_network_is_used_only_when_asked_for() {
    if engine().await.is_none() {
        return;
    }
    let base = tempdir().expect("temporary directory");
    let mut spec = stage(&base, "networked", r#"[{"do":"inspect","paths":[]},{"do":"exit","code":0}]"#);
    spec.network = Network::Host;
    let backend = open().await;
    let started = backend.ensure(&spec).await.expect("ensure");
    assert_eq!(started.isolation.network, "host");
    assert!(!started.isolation.mechanisms.iter().any(|name| name == "netns"));
    backend.wait(&spec.dispatch).await.expect("wait");
    let seen = std::fs::read_to_string(spec.result_dir.join("inspect.json")).expect("read");
    assert!(seen.contains("docker0"), "the host's interfaces are there: {seen}");
    backend.remove(&spec.dispatch).await.expect("remove");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_restart_never_leads_to_a_second_start() {
    if engine().await.is_none() {
        return;
    }
    let Some(command) = std::env::var_os("PANGOLIN_TEST_DOCKERD_RESTART") else {
        eprintln!(
            "SKIPPED: an_engine_restart…: PANGOLIN_TEST_DOCKERD_RESTART holds no command to restart dockerd"
        );
        return;
    };
    let base = tempdir().expect("temporary directory");
    let spec = stage(&base, "restarted", GATED);
    let backend = std::sync::Arc::new(open().await);
    assert_eq!(backend.probe(Isolation::Container, Network::None).await.expect("probe").network, "none");
    backend.ensure(&spec).await.expect("ensure");
    until("the worker runs", || starts(&spec) > 0).await;
    let waiter = {
        let (backend, id) = (backend.clone(), spec.dispatch.clone());
        tokio::spawn(async move { backend.wait(&id).await })
    };
    let status = tokio::process::Command::new("sh").arg("-c").arg(command).status().await.expect("run it");
    assert!(status.success(), "the restart command failed: {status}");
    let exit =
        tokio::time::timeout(Duration::from_secs(60), waiter).await.expect("in time").expect("no panic");
    let exit = exit.expect("wait survives the restart");
    eprintln!("after the restart of the engine: {exit:?}");
    assert!(matches!(exit, WorkerExit::Exited { .. } | WorkerExit::Lost { .. }), "{exit:?}");
    assert!(backend.ensure(&spec).await.expect("ensure").adopted, "the container that ran counts as started");
    assert_eq!(starts(&spec), 1);
    backend.remove(&spec.dispatch).await.expect("remove");
}
