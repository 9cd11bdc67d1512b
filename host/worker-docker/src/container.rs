//! What a worker's container is made of, and what can be read back from it.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, ContainerStateStatusEnum, HostConfig, HostConfigLogConfig,
    Mount, MountType, ResourcesUlimits,
};
use pangolin_core::{entry::IsolationUsed, ids::DispatchId};
use pangolin_envelope::envelope::worker_env;
use pangolin_ports::worker_backend::{Limits, Network, WorkerSpec};
use serde::{Deserialize, Serialize};

/// Dispatch id.
pub(crate) const LABEL_DISPATCH: &str = "pangolin.dispatch";
/// Deployment; a backend sees only its own.
pub(crate) const LABEL_DEPLOYMENT: &str = "pangolin.deployment";
/// JSON of [`Memo`].
const LABEL_MEMO: &str = "pangolin.memo";

const WORKER: &str = "/pangolin/worker";
const ENVELOPE: &str = "/pangolin/envelope";
const RESULT: &str = "/pangolin/result";
const WORKSPACE: &str = "/workspace";

/// Size of `/tmp` (memory backed, so it counts against the memory limit as well).
const TMP_BYTES: u64 = 512 << 20;

/// What a later host needs to know about a container, kept in a label.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Memo {
    pub(crate) isolation: IsolationUsed,
    pub(crate) limits: Limits,
    pub(crate) envelope_dir: PathBuf,
    pub(crate) result_dir: PathBuf,
}

/// Name of the container of a dispatch. `:`, `~`, `@` and `+`, which names must not contain, become `_x<hex>`.
pub(crate) fn name(dispatch: &DispatchId) -> String {
    let mut name = String::from("pangolin-");
    for letter in dispatch.as_str().chars() {
        match letter {
            ':' | '~' | '@' | '+' => name.push_str(&format!("_x{:02x}", u32::from(letter))),
            _ => name.push(letter),
        }
    }
    name
}

/// Bytes of the engine's own log of a container, per file (two are kept). Its JSON is bigger than what it holds.
pub(crate) fn log_file_bytes(limits: &Limits) -> u64 {
    limits.output_bytes.saturating_mul(8).saturating_add(1 << 20).min(1 << 30)
}

/// The container to create.
pub(crate) fn describe(
    spec: &WorkerSpec,
    worker: &Path,
    image: &str,
    deployment: &str,
    (uid, gid): (u32, u32),
    memo: &Memo,
) -> ContainerCreateBody {
    let bind = |source: &Path, target: &str, read_only: bool| Mount {
        typ: Some(MountType::BIND),
        source: Some(source.display().to_string()),
        target: Some(target.to_owned()),
        read_only: Some(read_only),
        ..Mount::default()
    };
    let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let limits = &spec.limits;
    let host_config = HostConfig {
        mounts: Some(vec![
            bind(worker, WORKER, true),
            bind(&spec.envelope_dir, ENVELOPE, true),
            bind(&spec.workspace_dir, WORKSPACE, false),
            bind(&spec.result_dir, RESULT, false),
        ]),
        tmpfs: Some(HashMap::from([(
            "/tmp".to_owned(),
            format!("rw,nosuid,nodev,exec,size={},mode=1777", TMP_BYTES.min(limits.memory_bytes)),
        )])),
        cap_drop: Some(vec!["ALL".to_owned()]),
        security_opt: Some(vec!["no-new-privileges".to_owned()]),
        readonly_rootfs: Some(true),
        privileged: Some(false),
        // The worker is PID 1: when it ends, the kernel ends everything else in the container.
        init: Some(false),
        memory: Some(number(limits.memory_bytes)),
        // Memory and swap together: no swap.
        memory_swap: Some(number(limits.memory_bytes)),
        nano_cpus: Some(i64::from(limits.cpu_milli) * 1_000_000),
        pids_limit: Some(i64::from(limits.pids)),
        ulimits: Some(vec![ResourcesUlimits { name: Some("core".to_owned()), soft: Some(0), hard: Some(0) }]),
        network_mode: Some(crate::engine::network_name(spec.network).to_owned()),
        ipc_mode: Some("private".to_owned()),
        log_config: Some(HostConfigLogConfig {
            typ: Some("json-file".to_owned()),
            config: Some(HashMap::from([
                ("max-size".to_owned(), log_file_bytes(limits).to_string()),
                ("max-file".to_owned(), "2".to_owned()),
            ])),
        }),
        ..HostConfig::default()
    };
    let env = [
        (worker_env::ENVELOPE_DIR, ENVELOPE),
        (worker_env::WORKSPACE_DIR, WORKSPACE),
        (worker_env::RESULT_DIR, RESULT),
        (worker_env::RESULT_KEY, &spec.result_key),
        // The image's home is not writable.
        ("HOME", "/tmp"),
        ("TMPDIR", "/tmp"),
    ];
    ContainerCreateBody {
        image: Some(image.to_owned()),
        entrypoint: Some(vec![WORKER.to_owned()]),
        cmd: Some(Vec::new()),
        env: Some(env.map(|(name, value)| format!("{name}={value}")).into()),
        working_dir: Some(WORKSPACE.to_owned()),
        user: Some(format!("{uid}:{gid}")),
        network_disabled: Some(spec.network == Network::None),
        labels: Some(HashMap::from([
            (LABEL_DISPATCH.to_owned(), spec.dispatch.to_string()),
            (LABEL_DEPLOYMENT.to_owned(), deployment.to_owned()),
            (LABEL_MEMO.to_owned(), serde_json::to_string(memo).unwrap_or_default()),
        ])),
        host_config: Some(host_config),
        ..ContainerCreateBody::default()
    }
}

/// Where a container is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Created, never ran.
    Created,
    /// Running (or paused by somebody).
    Running,
    /// Ran and ended.
    Ended { code: i32, out_of_memory: bool },
    /// Being removed, or broken.
    Gone { detail: String },
}

/// One look at a container of ours.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) id: String,
    pub(crate) phase: Phase,
    pub(crate) memo: Memo,
    /// Milliseconds since the epoch.
    pub(crate) started_at: Option<i64>,
}

impl Seen {
    /// Reads an answer of the engine. `Err` says why it is not a container of this crate.
    pub(crate) fn read(answer: ContainerInspectResponse, dispatch: &DispatchId) -> Result<Self, String> {
        let labels = answer.config.and_then(|config| config.labels).unwrap_or_default();
        if labels.get(LABEL_DISPATCH).map(String::as_str) != Some(dispatch.as_str()) {
            return Err(format!("container {} exists but was not made by Pangolin", name(dispatch)));
        }
        let memo = labels.get(LABEL_MEMO).map(String::as_str).unwrap_or_default();
        let memo = serde_json::from_str(memo).map_err(|error| {
            format!("container {} has a damaged {LABEL_MEMO} label: {error}", name(dispatch))
        })?;
        let state = answer.state.unwrap_or_default();
        // Never started is 0001-01-01T00:00:00Z.
        let started_at = state.started_at.as_deref().and_then(|text| text.parse::<jiff::Timestamp>().ok());
        let started_at = started_at.map(jiff::Timestamp::as_millisecond).filter(|at| *at > 0);
        let phase = match state.status {
            Some(ContainerStateStatusEnum::CREATED) if started_at.is_none() => Phase::Created,
            Some(ContainerStateStatusEnum::RUNNING | ContainerStateStatusEnum::PAUSED) => Phase::Running,
            Some(ContainerStateStatusEnum::EXITED | ContainerStateStatusEnum::CREATED) => Phase::Ended {
                code: state.exit_code.and_then(|code| i32::try_from(code).ok()).unwrap_or(-1),
                out_of_memory: state.oom_killed == Some(true),
            },
            other => {
                let error = state.error.unwrap_or_default();
                Phase::Gone { detail: format!("the engine reports its container as {other:?} {error}") }
            }
        };
        Ok(Self { id: answer.id.unwrap_or_default(), phase, memo, started_at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_distinct_and_legal() {
        let name_of = |id: &str| name(&DispatchId::new(id).expect("is an id"));
        assert_eq!(name_of("d-0a1b"), "pangolin-d-0a1b");
        assert_eq!(name_of("a:b~c"), "pangolin-a_x3ab_x7ec");
        assert!(name_of("a@b+c").bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b)));
    }
}
