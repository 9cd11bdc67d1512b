//! What can be configured.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// An AWS service that Pangolin talks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Service {
    /// Stacks.
    CloudFormation,
    /// Alarms.
    CloudWatch,
    /// Logs of Lambdas and tasks.
    CloudWatchLogs,
    /// Run state.
    DynamoDb,
    /// Workers.
    Ecs,
    /// The functions of the stack.
    Lambda,
    /// Blobs, inbox, anchor.
    S3,
    /// The clock of the tick.
    Scheduler,
    /// Secrets.
    SecretsManager,
    /// Doorbells.
    Sqs,
    /// Who am I.
    Sts,
}

impl Service {
    /// Every service.
    pub const ALL: [Self; 11] = [
        Self::CloudFormation,
        Self::CloudWatch,
        Self::CloudWatchLogs,
        Self::DynamoDb,
        Self::Ecs,
        Self::Lambda,
        Self::S3,
        Self::Scheduler,
        Self::SecretsManager,
        Self::Sqs,
        Self::Sts,
    ];

    /// The id under which the SDK looks for `AWS_ENDPOINT_URL_<ID>` and for a section of a profile.
    #[must_use]
    pub const fn id(self) -> &'static str {
        match self {
            Self::CloudFormation => "CloudFormation",
            Self::CloudWatch => "CloudWatch",
            Self::CloudWatchLogs => "CloudWatch Logs",
            Self::DynamoDb => "DynamoDB",
            Self::Ecs => "ECS",
            Self::Lambda => "Lambda",
            Self::S3 => "S3",
            Self::Scheduler => "Scheduler",
            Self::SecretsManager => "Secrets Manager",
            Self::Sqs => "SQS",
            Self::Sts => "STS",
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id())
    }
}

/// How often and how fast a failed call is repeated by the SDK (standard mode: exponential with jitter, and a budget that
/// stops retries when everything fails).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Retries {
    /// Attempts of one call, the first included. From 1 to 20.
    pub attempts: u32,
    /// Upper bound of the first pause, in milliseconds.
    pub first_pause_ms: u64,
    /// Upper bound of every pause, in milliseconds.
    pub max_pause_ms: u64,
}

impl Default for Retries {
    fn default() -> Self {
        Self { attempts: 5, first_pause_ms: 200, max_pause_ms: 5_000 }
    }
}

/// How long to wait. All in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Timeouts {
    /// For a connection, TLS included.
    pub connect_ms: u64,
    /// For an answer to begin, counted from the start of the request. Adapters lift it for large uploads.
    pub read_ms: u64,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect_ms: 5_000, read_ms: 30_000 }
    }
}

/// Where AWS is and how to talk to it. What is `None` or absent comes from the environment (`AWS_REGION`, `AWS_PROFILE`,
/// `AWS_ENDPOINT_URL`, `AWS_ENDPOINT_URL_<SERVICE>`, …) and from the profile files, by the SDK's usual rules.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct AwsConfig {
    /// Region, as `eu-central-1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Profile of the shared configuration files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Endpoint of every service, as for an emulator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint_url: Option<String>,
    /// Endpoints of single services; they win over `endpoint_url`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub endpoints: BTreeMap<Service, String>,
    /// Whether buckets are in the path of S3 URLs (`https://host/bucket/key`) and not in the host name. By default they
    /// are when S3 has an endpoint of its own: most servers that are not AWS need it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_style: Option<bool>,
    /// Retries.
    pub retries: Retries,
    /// Timeouts.
    pub timeouts: Timeouts,
}

/// Everything that is wrong with an [`AwsConfig`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("AWS configuration: {}", .0.join("; "))]
pub struct ConfigError(pub Vec<String>);

impl AwsConfig {
    /// Checks the values without any IO.
    ///
    /// # Errors
    /// [`ConfigError`] with all findings.
    pub fn check(&self) -> Result<(), ConfigError> {
        let mut findings = Vec::new();
        for (name, value) in [("region", &self.region), ("profile", &self.profile)] {
            if value.as_ref().is_some_and(|value| value.is_empty() || value.contains(char::is_whitespace)) {
                findings
                    .push(format!("{name} is empty or has white space; leave it out to use the environment"));
            }
        }
        if let Some(url) = &self.endpoint_url {
            check_endpoint("endpointUrl", url, &mut findings);
        }
        for (service, url) in &self.endpoints {
            check_endpoint(&format!("endpoint of {service}"), url, &mut findings);
        }
        let Retries { attempts, first_pause_ms, max_pause_ms } = self.retries;
        if !(1..=20).contains(&attempts) {
            findings.push(format!("retries.attempts is {attempts}, it must be from 1 to 20"));
        }
        if first_pause_ms == 0 || first_pause_ms > max_pause_ms {
            findings.push(format!(
                "retries: firstPauseMs is {first_pause_ms}, it must be at least 1 and at most maxPauseMs ({max_pause_ms})"
            ));
        }
        if self.timeouts.connect_ms == 0 || self.timeouts.read_ms == 0 {
            findings.push("timeouts must be at least 1 ms".to_owned());
        }
        if findings.is_empty() { Ok(()) } else { Err(ConfigError(findings)) }
    }

    /// The endpoint that this configuration itself gives a service; the environment may give one too.
    #[must_use]
    pub fn endpoint(&self, service: Service) -> Option<&str> {
        self.endpoints.get(&service).or(self.endpoint_url.as_ref()).map(String::as_str)
    }
}

fn check_endpoint(what: &str, url: &str, findings: &mut Vec<String>) {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let fine = rest.is_some_and(|rest| {
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        !host.is_empty()
            && !host.contains('@')
            && !url.contains(char::is_whitespace)
            && !rest.contains(['?', '#'])
    });
    if !fine {
        findings.push(format!("{what} is {url:?}, expected a URL as http://127.0.0.1:4566"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_findings_come_at_once() {
        let config = AwsConfig {
            region: Some(String::new()),
            profile: Some("a b".to_owned()),
            endpoint_url: Some("localhost:4566".to_owned()),
            endpoints: [(Service::S3, "http://".to_owned()), (Service::Sqs, "https://user@host".to_owned())]
                .into(),
            retries: Retries { attempts: 0, first_pause_ms: 10, max_pause_ms: 5 },
            timeouts: Timeouts { connect_ms: 0, read_ms: 1 },
            path_style: None,
        };
        let ConfigError(findings) = config.check().expect_err("everything is wrong");
        assert_eq!(findings.len(), 8, "{findings:#?}");
        assert!(AwsConfig::default().check().is_ok());
    }

    #[test]
    fn endpoints_of_services_win() {
        let config = AwsConfig {
            endpoint_url: Some("http://127.0.0.1:4566".to_owned()),
            endpoints: [(Service::S3, "https://minio.example:9000".to_owned())].into(),
            ..AwsConfig::default()
        };
        assert!(config.check().is_ok());
        assert_eq!(config.endpoint(Service::S3), Some("https://minio.example:9000"));
        assert_eq!(config.endpoint(Service::DynamoDb), Some("http://127.0.0.1:4566"));
    }
}
