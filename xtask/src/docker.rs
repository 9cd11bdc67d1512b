//! The Docker engine and a small local image for the demo.

use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use crate::{daemon::Daemon, process, workspace::Workspace};

/// Image that the demo builds when no other one is asked for.
pub(crate) const DEMO_IMAGE: &str = "pangolin-demo:local";

/// Variable that names another image for the demo.
const IMAGE_VARIABLE: &str = "PANGOLIN_DEMO_IMAGE";

/// How long an engine may take to answer.
const ENGINE_LIMIT: Duration = Duration::from_secs(60);

fn docker<const N: usize>(args: [&str; N]) -> Command {
    process::command("docker", args)
}

/// Whether an engine answers.
pub(crate) fn engine_answers() -> bool {
    process::succeeds(&mut docker(["version", "--format", "{{.Server.Version}}"]))
}

/// Fails with a hint when no engine answers.
pub(crate) fn require_engine() -> Result<()> {
    if !process::is_on_path("docker") {
        bail!("there is no `docker` on PATH; install Docker (Debian and Ubuntu: apt-get install docker.io)");
    }
    if !engine_answers() {
        bail!(
            "no Docker engine answers (`docker info` says why); start one, or run the demo without --docker"
        );
    }
    Ok(())
}

/// What `start_engine` did.
pub(crate) enum Engine {
    /// One was running already; it is left alone.
    Running,
    /// Started here, ends with this value.
    Started(Daemon),
    /// None can be had here, for this reason.
    Unavailable(String),
}

/// Starts `dockerd` on its unix socket when none answers and this is root.
pub(crate) fn start_engine(workspace: &Workspace) -> Result<Engine> {
    if !process::is_on_path("docker") {
        return Ok(Engine::Unavailable("`docker` is not installed".to_owned()));
    }
    if engine_answers() {
        return Ok(Engine::Running);
    }
    if !process::is_on_path("dockerd") {
        return Ok(Engine::Unavailable("no engine answers and `dockerd` is not installed".to_owned()));
    }
    if process::output(&mut process::command("id", ["-u"]))?.trim() != "0" {
        return Ok(Engine::Unavailable("no engine answers and only root can start `dockerd`".to_owned()));
    }
    let dir = workspace.target.join("tools").join("dockerd");
    let mut first_failure = None;
    // The second try is for machines without the right to change the packet filter. Workers have no network anyway.
    for args in [&[][..], &["--iptables=false", "--ip6tables=false", "--bridge=none"][..]] {
        let mut engine = Daemon::start("dockerd", &dir, &process::command("dockerd", args))?;
        match engine.wait_ready(ENGINE_LIMIT, engine_answers) {
            Ok(()) => return Ok(Engine::Started(engine)),
            Err(error) => first_failure.get_or_insert(format!("{error:#}")),
        };
    }
    Ok(Engine::Unavailable(format!("dockerd does not start: {}", first_failure.unwrap_or_default())))
}

/// The image that the demo uses: the one asked for, or a local one that is built when it is missing.
pub(crate) fn demo_image(workspace: &Workspace) -> Result<String> {
    if let Ok(image) = std::env::var(IMAGE_VARIABLE)
        && !image.is_empty()
    {
        if !process::succeeds(&mut docker(["image", "inspect", &image])) {
            bail!(
                "{IMAGE_VARIABLE} names {image}, which is not on this machine; `docker pull {image}` gets it"
            );
        }
        return Ok(image);
    }
    if !process::succeeds(&mut docker(["image", "inspect", DEMO_IMAGE])) {
        import_busybox(&workspace.target.join("tools").join("demo-image"))?;
    }
    if !process::succeeds(&mut docker([
        "run",
        "--rm",
        "--network",
        "none",
        DEMO_IMAGE,
        "/bin/sh",
        "-c",
        "true",
    ])) {
        bail!(
            "{DEMO_IMAGE} does not run a shell. Is the busybox on PATH a static one (apt-get install busybox-static)? \
             `docker image rm {DEMO_IMAGE}` makes the next demo build it again"
        );
    }
    Ok(DEMO_IMAGE.to_owned())
}

/// An image from scratch with busybox and a name for each of its applets.
fn import_busybox(dir: &Path) -> Result<()> {
    let Some(busybox) = process::find_on_path("busybox") else {
        bail!(
            "no `busybox` on PATH to build {DEMO_IMAGE} from; install a static one (Debian and Ubuntu: apt-get install \
             busybox-static) or set {IMAGE_VARIABLE} to an image with sh, sed, grep and git or patch"
        );
    };
    let root = dir.join("root");
    if root.exists() {
        fs::remove_dir_all(&root).with_context(|| format!("cannot remove {}", root.display()))?;
    }
    for directory in ["bin", "etc", "tmp", "proc", "dev", "sys", "workspace"] {
        fs::create_dir_all(root.join(directory))
            .with_context(|| format!("cannot create {}", root.display()))?;
    }
    fs::copy(&busybox, root.join("bin/busybox"))
        .with_context(|| format!("cannot copy {}", busybox.display()))?;
    fs::write(root.join("etc/passwd"), "root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/tmp:/bin/sh\n")
        .context("cannot write the image's /etc/passwd")?;
    fs::write(root.join("etc/group"), "root:x:0:\nnogroup:x:65534:\n")
        .context("cannot write the image's /etc/group")?;
    let applets = process::output(&mut process::command(&busybox, ["--list"]))?;
    for applet in applets.split_whitespace().filter(|applet| *applet != "busybox" && !applet.contains('/')) {
        symlink("busybox", root.join("bin").join(applet)).with_context(|| format!("cannot link {applet}"))?;
    }
    eprintln!("xtask: building {DEMO_IMAGE} from {}", busybox.display());
    let mut tar = process::command("tar", ["--numeric-owner", "--owner=0", "--group=0", "-c", "."])
        .current_dir(&root)
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start tar")?;
    let archive = tar.stdout.take().context("tar has no output")?;
    let import = process::run(
        docker(["import", "--change", "ENV PATH=/bin", "--change", "WORKDIR /workspace", "-", DEMO_IMAGE])
            .stdin(archive),
    );
    let packed = tar.wait().context("cannot wait for tar")?;
    import?;
    if !packed.success() {
        bail!("cannot pack {}: tar {packed}", root.display());
    }
    Ok(())
}
