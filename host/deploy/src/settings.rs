//! What the user decides.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use pangolin_stack::Architecture;

use crate::{DeployError, names};

/// Subnets that exist already.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// `vpc-…`.
    pub vpc_id: String,
    /// `subnet-…`, at least one.
    pub subnet_ids: Vec<String>,
    /// Whether tasks get a public address. Without one the subnets need a NAT gateway or endpoints.
    #[serde(default)]
    pub assign_public_ip: bool,
}

/// The parameters of a stack, with defaults. Read from section `[deploy]` of `pangolin.toml`, so the keys are written as there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Name of the stack.
    pub stack: String,
    /// Processor of the functions.
    pub architecture: Architecture,
    /// Where workers run. `None`: the stack makes a VPC with two public subnets.
    pub network: Option<Network>,
    /// Days for which checkpoints are locked. Cannot be shortened for what is written.
    pub anchor_retention_days: u32,
    /// Days for which logs are kept; one of the numbers that CloudWatch knows.
    pub log_retention_days: u32,
    /// Minutes without progress after which a run raises an alarm.
    pub stuck_after_minutes: u32,
    /// Ticks at once; 0 reserves nothing.
    pub tick_concurrency: u32,
    /// SNS topic for alarms.
    pub alarm_topic_arn: Option<String>,
    /// KMS key for table and data bucket.
    pub kms_key_arn: Option<String>,
    /// Tags of everything in the stack.
    pub tags: BTreeMap<String, String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            stack: "pangolin".to_owned(),
            architecture: Architecture::default(),
            network: None,
            anchor_retention_days: pangolin_anchor_s3::RETENTION_DAYS_DEFAULT,
            log_retention_days: 30,
            stuck_after_minutes: 180,
            tick_concurrency: 3,
            alarm_topic_arn: None,
            kms_key_arn: None,
            tags: BTreeMap::new(),
        }
    }
}

/// The days that CloudWatch Logs takes, up to ten years.
const LOG_DAYS: [u32; 22] = [
    1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1_096, 1_827, 2_192, 2_557, 2_922, 3_288,
    3_653,
];

/// Longest name of a stack. Names of buckets have 63 characters: name, suffix and `-anchor`; names of roles and functions,
/// which CloudFormation makes of it, have 64.
pub const STACK_NAME_MAX: usize = 32;

impl Settings {
    /// Checks everything that can be checked without AWS.
    ///
    /// # Errors
    /// [`DeployError::Settings`] with all findings.
    pub fn check(&self) -> Result<(), DeployError> {
        let mut findings = Vec::new();
        findings.extend(stack_name_problem(&self.stack));
        if let Some(network) = &self.network {
            if !is_id(&network.vpc_id, "vpc-") {
                findings
                    .push(format!("network.vpc_id is {:?}, expected vpc- and hex digits", network.vpc_id));
            }
            if network.subnet_ids.is_empty() {
                findings.push(
                    "network.subnet_ids is empty: name at least one subnet of the VPC, or leave the network out"
                        .to_owned(),
                );
            }
            for subnet in network.subnet_ids.iter().filter(|subnet| !is_id(subnet, "subnet-")) {
                findings.push(format!("network.subnet_ids has {subnet:?}, expected subnet- and hex digits"));
            }
        }
        let (days, longest) = (self.anchor_retention_days, pangolin_anchor_s3::RETENTION_DAYS_MAX);
        if !(2..=longest).contains(&days) {
            findings.push(format!("anchor_retention_days is {days}, it must be from 2 to {longest}"));
        }
        if !LOG_DAYS.contains(&self.log_retention_days) {
            let days = self.log_retention_days;
            findings.push(format!("log_retention_days is {days}, CloudWatch takes one of {LOG_DAYS:?}"));
        }
        if !(5..=10_080).contains(&self.stuck_after_minutes) {
            let minutes = self.stuck_after_minutes;
            findings.push(format!("stuck_after_minutes is {minutes}, it must be from 5 to 10080 (a week)"));
        }
        if self.tick_concurrency == 1 || self.tick_concurrency > 100 {
            let count = self.tick_concurrency;
            findings.push(format!(
                "tick_concurrency is {count}, it must be 0 (reserve nothing) or from 2 to 100: the queue alone uses two"
            ));
        }
        for (name, value, service) in
            [("alarm_topic_arn", &self.alarm_topic_arn, "sns"), ("kms_key_arn", &self.kms_key_arn, "kms")]
        {
            if value
                .as_ref()
                .is_some_and(|arn| arn.split(':').nth(2) != Some(service) || !arn.starts_with("arn:"))
            {
                findings.push(format!("{name} is {value:?}, expected arn:aws:{service}:…"));
            }
        }
        for (key, value) in &self.tags {
            if key.is_empty() || key.len() > 128 || value.len() > 256 || key.starts_with("aws:") {
                findings.push(format!("tag {key:?} is empty, too long, or begins with aws:"));
            }
        }
        if findings.is_empty() { Ok(()) } else { Err(DeployError::Settings(findings)) }
    }

    /// Values of the template's parameters but the suffix and the code.
    pub(crate) fn parameters(&self) -> Vec<(&'static str, String)> {
        let network = self.network.as_ref();
        let public = network.is_some_and(|network| network.assign_public_ip);
        vec![
            ("Architecture", self.architecture.as_str().to_owned()),
            ("VpcId", network.map_or_else(String::new, |network| network.vpc_id.clone())),
            ("SubnetIds", network.map_or_else(String::new, |network| network.subnet_ids.join(","))),
            ("AssignPublicIp", if public { "ENABLED" } else { "DISABLED" }.to_owned()),
            ("AnchorRetentionDays", self.anchor_retention_days.to_string()),
            ("LogRetentionDays", self.log_retention_days.to_string()),
            ("StuckAfterMinutes", self.stuck_after_minutes.to_string()),
            ("TickConcurrency", self.tick_concurrency.to_string()),
            ("AlarmTopicArn", self.alarm_topic_arn.clone().unwrap_or_default()),
            ("KmsKeyArn", self.kms_key_arn.clone().unwrap_or_default()),
        ]
    }

    /// What task definitions of the stack are called, before a hash.
    #[must_use]
    pub fn task_family_prefix(&self) -> String {
        names::task_family_prefix(&self.stack)
    }
}

/// What is wrong with a name of a stack.
pub(crate) fn stack_name_problem(name: &str) -> Option<String> {
    let fine = name.len() <= STACK_NAME_MAX
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && !name.ends_with('-')
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    (!fine).then(|| {
        format!(
            "stack is {name:?}, expected a letter, then letters, digits and -, all small, at most {STACK_NAME_MAX}: it becomes part of bucket names"
        )
    })
}

fn is_id(text: &str, prefix: &str) -> bool {
    text.strip_prefix(prefix)
        .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_findings_come_at_once() {
        let settings = Settings {
            stack: "My_Stack".to_owned(),
            network: Some(Network {
                vpc_id: "vpc-xyz".to_owned(),
                subnet_ids: Vec::new(),
                assign_public_ip: false,
            }),
            anchor_retention_days: 1,
            log_retention_days: 31,
            stuck_after_minutes: 0,
            tick_concurrency: 1,
            alarm_topic_arn: Some("arn:aws:sqs:x".to_owned()),
            kms_key_arn: Some("alias/key".to_owned()),
            tags: [("aws:x".to_owned(), String::new())].into(),
            ..Settings::default()
        };
        let Err(DeployError::Settings(findings)) = settings.check() else { panic!("everything is wrong") };
        assert_eq!(findings.len(), 10, "{findings:#?}");
        assert!(Settings::default().check().is_ok());
    }
}
