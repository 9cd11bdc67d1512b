//! Shared by the tests of this crate: the engine, an image, the scripted worker.
#![allow(dead_code, reason = "each test program uses its part")]

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use bollard::{API_DEFAULT_VERSION, Docker, query_parameters::CreateImageOptionsBuilder};
use futures_util::TryStreamExt;
use pangolin_core::{entry::Isolation, ids::DispatchId};
use pangolin_ports::worker_backend::{Limits, Network, WorkerSpec};
use pangolin_worker_docker::{DockerBackend, DockerOptions};
use tempfile::TempDir;

/// An image with nothing in it but an empty directory: the worker brings itself.
pub(crate) const IMAGE: &str = "pangolin-conformance:empty";

/// Deployment of the containers of these tests.
pub(crate) const DEPLOYMENT: &str = "pangolin-tests";

/// A client of the engine with the test image in it. Says loudly why not; with `PANGOLIN_REQUIRE_DOCKER` that fails.
#[expect(clippy::print_stderr, reason = "a skipped test must be seen")]
pub(crate) async fn engine() -> Option<Docker> {
    let connect = async || {
        let docker = Docker::connect_with_unix("/var/run/docker.sock", 120, API_DEFAULT_VERSION)?;
        docker.negotiate_version().await
    };
    match connect().await {
        Ok(docker) => {
            import(&docker).await;
            Some(docker)
        }
        Err(error) => {
            assert!(
                std::env::var_os("PANGOLIN_REQUIRE_DOCKER").is_none(),
                "no Docker engine at /var/run/docker.sock: {error}"
            );
            eprintln!("SKIPPED: no Docker engine at /var/run/docker.sock: {error}");
            None
        }
    }
}

async fn import(docker: &Docker) {
    if docker.inspect_image(IMAGE).await.is_ok() {
        return;
    }
    let (name, tag) = IMAGE.split_once(':').expect("has a tag");
    let options = CreateImageOptionsBuilder::default().from_src("-").repo(name).tag(tag).build();
    let body = bollard::body_full(archive().into());
    docker
        .create_image(Some(options), Some(body), None)
        .try_collect::<Vec<_>>()
        .await
        .expect("import the image");
}

/// A tar archive (POSIX ustar) with the directory `empty/`.
fn archive() -> Vec<u8> {
    let mut header = [0_u8; 512];
    let fields: [(usize, &[u8]); 8] = [
        (0, b"empty/"),
        (100, b"0000755\0"),
        (108, b"0000000\0"),
        (116, b"0000000\0"),
        (124, b"00000000000\0"),
        (136, b"00000000000\0"),
        (156, b"5"),
        (257, b"ustar\x0000"),
    ];
    for (at, text) in fields {
        header[at..at + text.len()].copy_from_slice(text);
    }
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut archive = header.to_vec();
    archive.resize(512 * 3, 0);
    archive
}

/// The scripted worker as a static binary: `PANGOLIN_CONFORMANCE_WORKER`, or built here.
pub(crate) fn worker() -> PathBuf {
    if let Some(path) = std::env::var_os("PANGOLIN_CONFORMANCE_WORKER") {
        return path.into();
    }
    const TARGET: &str = "x86_64-unknown-linux-musl";
    const NAME: &str = "pangolin-conformance-worker";
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the target directory");
    let built = target.join(TARGET).join("debug").join(NAME);
    let source = package.join("../worker-process/src/bin").join(format!("{NAME}.rs"));
    let changed = |path: &Path| std::fs::metadata(path).and_then(|meta| meta.modified()).ok();
    if changed(&built) < changed(&source) {
        let status = Command::new(env!("CARGO"))
            .args(["build", "-q", "-p", "pangolin-worker-process", "--bin", NAME, "--target", TARGET])
            .current_dir(package)
            .status()
            .expect("run cargo");
        assert!(status.success(), "building {NAME} for {TARGET} failed");
    }
    built
}

pub(crate) async fn open() -> DockerBackend {
    let options = DockerOptions { deployment: DEPLOYMENT.to_owned(), ..DockerOptions::new(worker()) };
    DockerBackend::open(options).await.expect("open the backend")
}

/// Stages a dispatch with a script (JSON).
pub(crate) fn stage(base: &TempDir, name: &str, script: &str) -> WorkerSpec {
    let dir = |kind: &str| -> PathBuf {
        let dir = base.path().join(name).join(kind);
        std::fs::create_dir_all(&dir).expect("create a dispatch directory");
        dir
    };
    // Distinct for each test and each time.
    let unique = base.path().file_name().expect("has a name").to_string_lossy().replace('.', "");
    let spec = WorkerSpec {
        dispatch: DispatchId::new(format!("t{unique}-{name}")).expect("is an id"),
        envelope_dir: dir("envelope"),
        workspace_dir: dir("workspace"),
        result_dir: dir("result"),
        result_key: "c3".repeat(32),
        image: Some(IMAGE.to_owned()),
        isolation: Isolation::Container,
        network: Network::None,
        limits: Limits { timeout_ms: 60_000, memory_bytes: 256 << 20, ..Limits::default() },
    };
    std::fs::write(spec.envelope_dir.join("script.json"), script).expect("write the script");
    spec
}

/// How often a worker was started.
pub(crate) fn starts(spec: &WorkerSpec) -> usize {
    let text = std::fs::read_to_string(spec.result_dir.join("starts")).unwrap_or_default();
    text.lines().filter(|line| line.starts_with("start ")).count()
}

pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(60), "gave up waiting until {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
