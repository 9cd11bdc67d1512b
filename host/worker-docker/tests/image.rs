//! The image for workers on Fargate (`infra/worker/Dockerfile`), built by an engine and used.
//!
//! Needs the `docker` program, and a static `busybox` for a base that has a shell.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use tempfile::TempDir;

const BASE: &str = "pangolin-image-test:base";

fn docker(arguments: &[&str]) -> Output {
    Command::new("docker").args(arguments).env("DOCKER_BUILDKIT", "0").output().expect("the docker program")
}

fn says(arguments: &[&str]) -> String {
    let output = docker(arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "docker {arguments:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The worker as a static program: `PANGOLIN_WORKER`, or built here.
fn worker() -> PathBuf {
    if let Some(path) = std::env::var_os("PANGOLIN_WORKER") {
        return path.into();
    }
    const TARGET: &str = "x86_64-unknown-linux-musl";
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let arguments = ["build", "-q", "-p", "pangolin-worker", "--target", TARGET];
    let built = Command::new(env!("CARGO")).args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).status();
    assert!(built.unwrap().success(), "building the worker for {TARGET} failed");
    target.join(TARGET).join("debug/pangolin-worker")
}

/// What the Dockerfile takes, as it lies in a checkout after the build that its first lines tell.
fn context() -> TempDir {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let dir = tempfile::tempdir().unwrap();
    let release = dir.path().join("target/x86_64-unknown-linux-musl/release");
    fs::create_dir_all(&release).unwrap();
    fs::copy(worker(), release.join("pangolin-worker")).unwrap();
    fs::write(release.join("other"), "is not sent").unwrap();
    fs::create_dir_all(dir.path().join("infra/worker/volume")).unwrap();
    for file in [".dockerignore", "infra/worker/Dockerfile", "infra/worker/volume/README"] {
        fs::copy(root.join(file), dir.path().join(file)).unwrap();
    }
    dir
}

fn build(context: &Path, base: &str, tag: &str) {
    let (base, file) = (format!("BASE={base}"), context.join("infra/worker/Dockerfile"));
    let (file, context) = (file.to_str().unwrap(), context.to_str().unwrap());
    says(&["build", "--quiet", "--build-arg", &base, "-f", file, "-t", tag, context]);
}

#[tokio::test]
async fn an_image_of_any_base_runs_the_worker_as_nobody() {
    if common::engine().await.is_none() {
        return;
    }
    let context = context();
    build(context.path(), "scratch", "pangolin-image-test:scratch");
    let version = says(&["run", "--rm", "pangolin-image-test:scratch", "--version"]);
    assert!(version.contains(env!("CARGO_PKG_VERSION")), "{version:?}");
    let template = "{{.Config.User}} {{.Config.Entrypoint}} {{.Config.Volumes}}";
    let config = says(&["image", "inspect", "--format", template, "pangolin-image-test:scratch"]);
    assert_eq!(config, "65534:65534 [/usr/local/bin/pangolin-worker] map[/pangolin:{}]");

    // A base of a user, with a shell.
    let base = tempfile::tempdir().unwrap();
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).is_file());
    fs::copy(busybox.expect("a static busybox (Debian: busybox-static)"), base.path().join("busybox"))
        .unwrap();
    fs::write(base.path().join("Dockerfile"), "FROM scratch\nCOPY busybox /bin/busybox\n").unwrap();
    says(&["build", "--quiet", "-t", BASE, base.path().to_str().unwrap()]);
    build(context.path(), BASE, "pangolin-image-test:user");
    let script = "/bin/busybox id -u; echo written > /pangolin/file && /bin/busybox cat /pangolin/file; \
                  echo x 2>/dev/null > /usr/local/bin/pangolin-worker || echo refused";
    let entry =
        ["run", "--rm", "--entrypoint", "/bin/busybox", "pangolin-image-test:user", "sh", "-c", script];
    assert_eq!(says(&entry), "65534\nwritten\nrefused");
    says(&["run", "--rm", "pangolin-image-test:user", "--version"]);
    says(&["rmi", "-f", "pangolin-image-test:user", "pangolin-image-test:scratch", BASE]);
}
