//! Task definitions: one family for each image, size and way to run, looked up before one is registered.

use std::collections::HashMap;

use aws_sdk_ecs::{
    Client,
    types::{
        Compatibility, ContainerDefinition, CpuArchitecture, KernelCapabilities, LinuxParameters,
        LogConfiguration, LogDriver, MountPoint, NetworkMode, OsFamily, RuntimePlatform, TaskDefinition,
        TaskDefinitionStatus, Tmpfs, Volume,
    },
};
use pangolin_aws::CallError;
use pangolin_ports::worker_backend::BackendError;
use tokio::sync::Mutex;

use crate::{
    config::{Architecture, FargateConfig},
    error::failed,
    keys::Keys,
    size::TaskSize,
};

/// Whether an image is named by digest (`repository@sha256:` and 64 hex digits). A tag may move between what is sealed and what
/// runs.
#[must_use]
pub fn is_by_digest(image: &str) -> bool {
    let digest = image.rsplit_once("@sha256:").map(|(_, hex)| hex);
    digest.is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Name of the volume in task definitions.
const VOLUME: &str = "task";

/// Longest stop timeout that Fargate knows, in seconds.
pub(crate) const STOP_SECONDS_MAX: u64 = 120;

/// What the worker needs after the grace to upload what there is, in seconds.
pub(crate) const UPLOAD_SECONDS: u64 = 30;

/// What a task definition is made for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Wanted {
    pub(crate) image: String,
    pub(crate) size: (u32, u32, u32),
    pub(crate) stop_seconds: u64,
}

impl Wanted {
    pub(crate) fn new(image: &str, size: TaskSize, grace_ms: u64) -> Self {
        let stop_seconds = (grace_ms.div_ceil(1_000) + UPLOAD_SECONDS).clamp(2, STOP_SECONDS_MAX);
        Self { image: image.to_owned(), size: (size.cpu, size.memory_mib, size.container_mib), stop_seconds }
    }
}

fn unusable(what: &str, source: aws_sdk_ecs::error::BuildError) -> BackendError {
    BackendError::Other { context: format!("describe {what} of a task"), source: Box::new(source) }
}

/// Finds and makes task definitions.
#[derive(Debug)]
pub(crate) struct Definitions {
    client: Client,
    keys: Keys,
    config: FargateConfig,
    region: String,
    known: Mutex<HashMap<Wanted, String>>,
}

impl Definitions {
    pub(crate) fn new(client: Client, keys: Keys, config: &FargateConfig, region: &str) -> Self {
        Self { client, keys, config: config.clone(), region: region.to_owned(), known: Mutex::default() }
    }

    /// The ARN of a task definition, registering it if there is none.
    pub(crate) async fn arn(&self, wanted: &Wanted) -> Result<String, BackendError> {
        // One at a time: many that start at once need the same definition, and ECS takes few registrations.
        let mut known = self.known.lock().await;
        if let Some(arn) = known.get(wanted) {
            return Ok(arn.clone());
        }
        let container = self.container(wanted)?;
        // Everything that goes into the definition decides about its name.
        let content = format!(
            "{container:?} {:?} {:?}",
            wanted.size,
            (&self.config.architecture, &self.config.execution_role_arn)
        );
        let family = self.keys.family(&content);
        let arn = match self.find(&family, &container, wanted).await? {
            Some(arn) => arn,
            None => self.register(&family, container, wanted).await?,
        };
        known.insert(wanted.clone(), arn.clone());
        Ok(arn)
    }

    /// A definition of this family that says what we would say; somebody else may have written into it.
    async fn find(
        &self,
        family: &str,
        container: &ContainerDefinition,
        wanted: &Wanted,
    ) -> Result<Option<String>, BackendError> {
        let sent = self.client.describe_task_definition().task_definition(family).send().await;
        let found = match sent.map_err(CallError::new) {
            Ok(found) => found,
            // "Unable to describe task definition": there is none.
            Err(error) if error.code() == Some("ClientException") => return Ok(None),
            Err(error) => return Err(failed(format!("looking for task definition {family}"), error)),
        };
        let fits = |definition: &&TaskDefinition| {
            let of = definition.container_definitions();
            definition.status() == Some(&TaskDefinitionStatus::Active)
                && definition.cpu() == Some(wanted.size.0.to_string().as_str())
                && definition.memory() == Some(wanted.size.1.to_string().as_str())
                && definition.task_role_arn().is_none()
                && of.len() == 1
                && of.iter().all(|one| {
                    one.name() == container.name()
                        && one.image() == container.image()
                        && one.user() == container.user()
                        && one.readonly_root_filesystem() == Some(true)
                        && one.privileged() != Some(true)
                        && one.stop_timeout() == container.stop_timeout()
                        && one.entry_point().is_empty()
                        && one.command().is_empty()
                })
        };
        Ok(found
            .task_definition()
            .filter(fits)
            .and_then(|definition| definition.task_definition_arn().map(str::to_owned)))
    }

    async fn register(
        &self,
        family: &str,
        container: ContainerDefinition,
        wanted: &Wanted,
    ) -> Result<String, BackendError> {
        let architecture = match self.config.architecture {
            Architecture::X86_64 => CpuArchitecture::X8664,
            Architecture::Arm64 => CpuArchitecture::Arm64,
        };
        let platform = RuntimePlatform::builder()
            .cpu_architecture(architecture)
            .operating_system_family(OsFamily::Linux)
            .build();
        let sent = self
            .client
            .register_task_definition()
            .family(family)
            .requires_compatibilities(Compatibility::Fargate)
            .network_mode(NetworkMode::Awsvpc)
            .cpu(wanted.size.0.to_string())
            .memory(wanted.size.1.to_string())
            .runtime_platform(platform)
            .set_execution_role_arn(self.config.execution_role_arn.clone())
            .volumes(Volume::builder().name(VOLUME).build())
            .container_definitions(container)
            .send()
            .await;
        let made = sent.map_err(|error| {
            failed(format!("registering task definition {family}"), CallError::new(error))
        })?;
        let arn = made.task_definition().and_then(|definition| definition.task_definition_arn());
        arn.map(str::to_owned).ok_or_else(|| {
            BackendError::Unavailable(format!("registering task definition {family}: the answer has no ARN"))
        })
    }

    fn container(&self, wanted: &Wanted) -> Result<ContainerDefinition, BackendError> {
        let config = &self.config;
        let number = |value: u64| i32::try_from(value).unwrap_or(i32::MAX);
        let tmp = Tmpfs::builder()
            .container_path("/tmp")
            .size(number(u64::from(wanted.size.2 / 4).clamp(16, 512)))
            .mount_options("nosuid")
            .mount_options("nodev")
            .build()
            .map_err(|source| unusable("the temporary directory", source))?;
        let linux = LinuxParameters::builder()
            .capabilities(KernelCapabilities::builder().drop("ALL").build())
            // The worker is process 1: when it ends, everything in the container does.
            .init_process_enabled(false)
            .tmpfs(tmp)
            .build();
        let log = config.log_group.as_ref().map(|group| {
            LogConfiguration::builder()
                .log_driver(LogDriver::Awslogs)
                .options("awslogs-group", group)
                .options("awslogs-region", &self.region)
                .options("awslogs-stream-prefix", "pangolin")
                .build()
        });
        let log = log.transpose().map_err(|source| unusable("the log", source))?;
        Ok(ContainerDefinition::builder()
            .name(&config.container)
            .image(&wanted.image)
            .essential(true)
            .memory(number(u64::from(wanted.size.2)))
            .user(&config.user)
            .readonly_root_filesystem(true)
            .stop_timeout(number(wanted.stop_seconds))
            .linux_parameters(linux)
            .mount_points(
                MountPoint::builder()
                    .source_volume(VOLUME)
                    .container_path(&config.task_dir)
                    .read_only(false)
                    .build(),
            )
            .set_log_configuration(log)
            .build())
    }
}
