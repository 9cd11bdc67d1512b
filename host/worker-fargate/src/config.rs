//! What can be configured.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// On what tasks run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Launch {
    /// Launch type Fargate.
    #[default]
    Fargate,
    /// Capacity provider `FARGATE_SPOT`: cheaper, and AWS may take the task away with two minutes' notice.
    FargateSpot,
}

/// Processor of the tasks; the image must have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Architecture {
    /// `X86_64`.
    #[default]
    X86_64,
    /// `ARM64`.
    Arm64,
}

/// Where tasks run and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct FargateConfig {
    /// Name of the stack. Goes into the families of task definitions and everything that is derived from a dispatch.
    pub stack: String,
    /// Bucket for blobs and for the records of dispatches.
    pub bucket: String,
    /// Before all keys: empty, or ending with `/`.
    #[serde(default)]
    pub prefix: String,
    /// Cluster, by name or ARN.
    pub cluster: String,
    /// Subnets, 1 to 16. Tasks need a way to S3 and to the registry of the image.
    pub subnets: Vec<String>,
    /// Security groups, at most 5.
    pub security_groups: Vec<String>,
    /// Give tasks a public address (needed in public subnets).
    #[serde(default)]
    pub assign_public_ip: bool,
    /// Launch type or capacity provider.
    #[serde(default)]
    pub launch: Launch,
    /// Processor.
    #[serde(default)]
    pub architecture: Architecture,
    /// Role with which ECS pulls the image and writes the log; the worker does not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution_role_arn: Option<String>,
    /// Log group for the output of workers. Without it there is no log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_group: Option<String>,
    /// Name of the container.
    #[serde(default = "container_default")]
    pub container: String,
    /// User and group of the container, never root. The image must give it the volume at [`Self::task_dir`].
    #[serde(default = "user_default")]
    pub user: String,
    /// Where the task's volume is mounted; the image must say the same in `PANGOLIN_TASK_DIR` if it is not `/pangolin`.
    #[serde(default = "task_dir_default")]
    pub task_dir: String,
    /// How long a task may take from its request until its worker begins, in milliseconds. The start document can be read
    /// for so long.
    #[serde(default = "start_default")]
    pub start_ms: u64,
    /// How long reads of ECS may be behind, in milliseconds.
    #[serde(default = "visibility_default")]
    pub visibility_ms: u64,
    /// From a task's end until it is believed that no completion will come, in milliseconds.
    #[serde(default = "settle_default")]
    pub settle_ms: u64,
    /// Pause of `wait` between two looks, in milliseconds.
    #[serde(default = "look_default")]
    pub look_ms: u64,
    /// Largest archive of results in bytes.
    #[serde(default = "result_default")]
    pub result_bytes: u64,
    /// Most files, directories and links in it.
    #[serde(default = "entries_default")]
    pub result_entries: u64,
}

fn container_default() -> String {
    "worker".to_owned()
}

fn user_default() -> String {
    "65534:65534".to_owned()
}

fn task_dir_default() -> String {
    pangolin_envelope::start::TASK_DIR_DEFAULT.to_owned()
}

const fn start_default() -> u64 {
    900_000
}

const fn visibility_default() -> u64 {
    300_000
}

const fn settle_default() -> u64 {
    10_000
}

const fn look_default() -> u64 {
    5_000
}

const fn result_default() -> u64 {
    2 << 30
}

const fn entries_default() -> u64 {
    400_000
}

/// Everything that is wrong with a [`FargateConfig`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("Fargate configuration: {}", .0.join("; "))]
pub struct ConfigError(pub Vec<String>);

impl FargateConfig {
    /// With defaults for all that has one.
    #[must_use]
    pub fn new(stack: &str, bucket: &str, cluster: &str, subnets: Vec<String>) -> Self {
        Self {
            stack: stack.to_owned(),
            bucket: bucket.to_owned(),
            prefix: String::new(),
            cluster: cluster.to_owned(),
            subnets,
            security_groups: Vec::new(),
            assign_public_ip: false,
            launch: Launch::default(),
            architecture: Architecture::default(),
            execution_role_arn: None,
            log_group: None,
            container: container_default(),
            user: user_default(),
            task_dir: task_dir_default(),
            start_ms: start_default(),
            visibility_ms: visibility_default(),
            settle_ms: settle_default(),
            look_ms: look_default(),
            result_bytes: result_default(),
            result_entries: entries_default(),
        }
    }

    /// Checks the values without any IO.
    ///
    /// # Errors
    /// [`ConfigError`] with all findings.
    pub fn check(&self) -> Result<(), ConfigError> {
        let mut findings = Vec::new();
        let mut unless = |fine: bool, finding: String| {
            if !fine {
                findings.push(finding);
            }
        };
        let word = |text: &str, max: usize| {
            !text.is_empty()
                && text.len() <= max
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        };
        unless(
            word(&self.stack, 128),
            format!("stack {:?} is not 1 to 128 letters, digits, - or _", self.stack),
        );
        unless(
            word(&self.container, 128),
            format!("container {:?} is not 1 to 128 letters, digits, - or _", self.container),
        );
        unless(!self.bucket.is_empty(), "bucket is empty".to_owned());
        unless(!self.cluster.is_empty(), "cluster is empty".to_owned());
        unless(
            self.prefix.is_empty() || (self.prefix.ends_with('/') && !self.prefix.starts_with('/')),
            format!("prefix {:?} must be empty or end with / and not begin with it", self.prefix),
        );
        let (subnets, groups) = (self.subnets.len(), self.security_groups.len());
        unless((1..=16).contains(&subnets), format!("there are {subnets} subnets, Fargate takes 1 to 16"));
        unless(groups <= 5, format!("there are {groups} security groups, Fargate takes at most 5"));
        unless(
            self.log_group.is_none() || self.execution_role_arn.is_some(),
            "logGroup needs executionRoleArn: ECS writes the log with it".to_owned(),
        );
        let user = self.user.split(':').next().unwrap_or_default();
        unless(
            !user.is_empty() && user != "root" && user.parse::<u32>() != Ok(0),
            format!("user is {:?}; a worker never runs as root", self.user),
        );
        unless(
            self.task_dir.starts_with('/') && self.task_dir.len() > 1,
            format!("taskDir {:?} must be absolute", self.task_dir),
        );
        unless(
            (1_000..=86_400_000).contains(&self.start_ms),
            format!("startMs is {}, it must be from a second to a day", self.start_ms),
        );
        unless(self.look_ms > 0, "lookMs must be at least 1".to_owned());
        unless(
            (1..=pangolin_blob_s3::OBJECT_BYTES_MAX).contains(&self.result_bytes),
            format!(
                "resultBytes is {}, it must be from 1 to {}",
                self.result_bytes,
                pangolin_blob_s3::OBJECT_BYTES_MAX
            ),
        );
        unless(self.result_entries > 0, "resultEntries must be at least 1".to_owned());
        if findings.is_empty() { Ok(()) } else { Err(ConfigError(findings)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_findings_come_at_once() {
        let mut config = FargateConfig::new("s t", "", "", Vec::new());
        assert_eq!(config.check().expect_err("wrong").0.len(), 4);
        config.prefix = "/x".to_owned();
        config.security_groups = vec![String::new(); 6];
        config.log_group = Some("g".to_owned());
        config.user = "0:0".to_owned();
        config.task_dir = "/".to_owned();
        config.start_ms = 1;
        config.look_ms = 0;
        config.result_bytes = 0;
        config.result_entries = 0;
        config.container = String::new();
        assert_eq!(config.check().expect_err("wrong").0.len(), 14);
        assert_eq!(FargateConfig::new("s", "b", "c", vec!["subnet-1".to_owned()]).check(), Ok(()));
    }

    #[test]
    fn what_is_left_out_has_defaults() {
        let text = r#"{"stack":"s","bucket":"b","cluster":"c","subnets":["n"],"securityGroups":[],"launch":"fargate-spot","architecture":"arm64"}"#;
        let config: FargateConfig = serde_json::from_str(text).expect("parses");
        let expected = FargateConfig {
            launch: Launch::FargateSpot,
            architecture: Architecture::Arm64,
            ..FargateConfig::new("s", "b", "c", vec!["n".to_owned()])
        };
        assert_eq!(config, expected);
    }
}
