//! Talking to the engine: connection, errors, what it can do.

use std::path::PathBuf;

use bollard::{API_DEFAULT_VERSION, Docker, errors::Error, models::SystemInfo};
use pangolin_core::entry::{Isolation, IsolationUsed};
use pangolin_ports::worker_backend::{BackendError, Network};

/// Where the engine listens if nothing else is said.
const DEFAULT_SOCKET: &str = "/var/run/docker.sock";

/// Seconds until a request counts as unanswered.
const REQUEST_TIMEOUT: u64 = 120;

/// Connects and agrees on an API version. `socket`, else `DOCKER_HOST`, else the default.
pub(crate) async fn connect(socket: Option<PathBuf>) -> Result<Docker, BackendError> {
    let path = match (socket, std::env::var("DOCKER_HOST")) {
        (Some(path), _) => path,
        (None, Ok(host)) if !host.is_empty() => match host.strip_prefix("unix://") {
            Some(path) => PathBuf::from(path),
            None => {
                return Err(BackendError::Unavailable(format!(
                    "DOCKER_HOST is {host}, but only engines of this machine (unix://<socket>) can be used"
                )));
            }
        },
        (None, _) => PathBuf::from(DEFAULT_SOCKET),
    };
    let unavailable = |error: Error| {
        let path = path.display();
        BackendError::Unavailable(format!(
            "no Docker engine at {path} ({error}); is it running, may you use it?"
        ))
    };
    let text = path.to_string_lossy();
    let docker =
        Docker::connect_with_unix(&text, REQUEST_TIMEOUT, API_DEFAULT_VERSION).map_err(unavailable)?;
    docker.negotiate_version().await.map_err(unavailable)
}

/// Status code of an answer of the engine, if it answered.
pub(crate) const fn status(error: &Error) -> Option<u16> {
    match error {
        Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

pub(crate) fn is_not_found(error: &Error) -> bool {
    status(error) == Some(404)
}

/// An error of the engine while doing `what`. No answer at all is worth another try, a refusal is not.
pub(crate) fn failed(what: impl Into<String>) -> impl FnOnce(Error) -> BackendError {
    let what = what.into();
    move |error| match status(&error) {
        None => BackendError::Unavailable(format!("{what}: {error}")),
        Some(_) => BackendError::Other { context: what, source: Box::new(error) },
    }
}

/// What containers of this engine are confined by; an error if that is not enough.
pub(crate) fn isolation(info: &SystemInfo, network: Network) -> Result<IsolationUsed, BackendError> {
    let mut missing = Vec::new();
    if info.os_type.as_deref() != Some("linux") {
        missing.push("the engine does not run Linux containers");
    }
    let controllers = [
        (info.memory_limit, "the memory cgroup controller"),
        (info.pids_limit, "the pids cgroup controller"),
        (info.cpu_cfs_quota, "the cpu cgroup controller (CFS quota)"),
    ];
    missing.extend(controllers.iter().filter(|(there, _)| *there != Some(true)).map(|(_, name)| *name));
    if !missing.is_empty() {
        let missing = format!("{}; see `docker info`", missing.join(", "));
        return Err(BackendError::IsolationUnavailable { requested: Isolation::Container, missing });
    }
    let mut mechanisms: Vec<String> = [
        "mountns",
        "pidns",
        "ipcns",
        "utsns",
        "non-root-user",
        "cap-drop-all",
        "no-new-privs",
        "read-only-root",
        "cgroup-memory",
        "cgroup-cpu",
        "cgroup-pids",
    ]
    .map(str::to_owned)
    .into();
    if network == Network::None {
        mechanisms.push("netns".to_owned());
    }
    // E.g. `name=seccomp,profile=default`, `name=apparmor`, `name=userns`, `name=rootless`.
    for option in info.security_options.iter().flatten() {
        let name = option.split(',').find_map(|part| part.strip_prefix("name="));
        mechanisms.extend(
            name.filter(|name| ["seccomp", "apparmor", "selinux", "userns"].contains(name))
                .map(str::to_owned),
        );
    }
    mechanisms.sort();
    Ok(IsolationUsed {
        level: Isolation::Container,
        mechanisms,
        network: network_name(network).to_owned(),
        image: None,
    })
}

pub(crate) const fn network_name(network: Network) -> &'static str {
    match network {
        Network::None => "none",
        Network::Host => "host",
    }
}
