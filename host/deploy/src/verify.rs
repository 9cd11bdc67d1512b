//! Reads everything back, and tries what must be refused.

mod buckets;
mod functions;
mod ledger;

use std::sync::Arc;

use pangolin_anchor_s3::S3Anchor;
use pangolin_aws::CallError;
use pangolin_core::ids::Digest;
use pangolin_ports::{anchor::AnchorError, memory::SystemClock};
use serde::Serialize;
use serde_json::Value;

use crate::{
    DeployError, Deployer, Packages, Progress,
    deployer::project_of,
    document, key, names,
    progress::Watch,
    stack::Described,
    template::{self, ANCHOR_FLOOR_DAYS},
};

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// Kind and name of the resource.
    pub resource: String,
    /// What was looked at.
    pub what: String,
    /// Whether it is as it must be.
    pub fine: bool,
    /// What was found; with what was expected and what to do when it is not fine.
    pub found: String,
}

/// What [`Deployer::verify`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verification {
    /// All checks, in the order in which they were made.
    pub checks: Vec<Check>,
}

impl Verification {
    /// Whether everything is as it must be.
    #[must_use]
    pub fn holds(&self) -> bool {
        !self.checks.is_empty() && self.checks.iter().all(|check| check.fine)
    }

    /// What is not as it must be.
    pub fn findings(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|check| !check.fine)
    }
}

/// Collects checks about one resource.
pub(crate) struct Checks<'a> {
    all: &'a mut Vec<Check>,
    resource: String,
}

impl<'a> Checks<'a> {
    fn about(all: &'a mut Vec<Check>, resource: impl Into<String>) -> Self {
        Self { all, resource: resource.into() }
    }

    fn add(&mut self, what: &str, fine: bool, found: String) {
        self.all.push(Check { resource: self.resource.clone(), what: what.to_owned(), fine, found });
    }

    /// Compares what is there with what must be.
    fn equal(&mut self, what: &str, found: impl Into<String>, expected: impl Into<String>, next: &str) {
        let (found, expected) = (found.into(), expected.into());
        let fine = found == expected;
        let text = if fine { found } else { format!("{found}, expected {expected}; {next}") };
        self.add(what, fine, text);
    }

    /// What could not be read is a finding like any other.
    fn unreadable(&mut self, what: &str, error: &dyn std::fmt::Display) {
        self.add(what, false, format!("cannot be read: {error}"));
    }
}

/// What to do about most differences. CloudFormation leaves alone what its template does not change.
const APPLY: &str = "somebody changed it outside of the stack: set it back by hand, apply does not touch what its template leaves as it is";

impl Deployer {
    /// Reads back what the stack made, compares it with what it must be, and attacks an object in the anchor bucket. With
    /// `packages` the code of the functions is compared too. All findings come at once: what cannot be read is one of them.
    ///
    /// The attacked object stays locked for a day.
    ///
    /// # Errors
    /// [`DeployError::NoStack`], or [`DeployError::Call`] when the stack itself cannot be described.
    pub async fn verify(
        &self,
        packages: Option<&Packages>,
        watch: Watch<'_>,
    ) -> Result<Verification, DeployError> {
        let step = |text: &str| watch(Progress::Step(text.to_owned()));
        let now = self.stack.expect().await?;
        let mut all = Vec::new();
        step("stack and configuration");
        self.look_at_stack(&mut all, &now).await?;
        self.look_at_document(&mut all, &now).await;
        self.look_at_project(&mut all, &now).await;
        self.look_at_key(&mut all, &now).await;
        step("table");
        self.look_at_ledger(&mut all, &now).await;
        step("buckets");
        self.look_at_buckets(&mut all, &now).await;
        step("functions and schedule");
        self.look_at_functions(&mut all, &now, packages).await;
        step("attacking a locked object");
        self.attack(&mut all, &now).await;
        Ok(Verification { checks: all })
    }

    async fn look_at_stack(&self, all: &mut Vec<Check>, now: &Described) -> Result<(), DeployError> {
        let mut checks = Checks::about(all, format!("stack {}", self.stack.name));
        let fine = matches!(now.status.as_str(), "CREATE_COMPLETE" | "UPDATE_COMPLETE");
        let found = if fine {
            now.status.clone()
        } else {
            format!("{}; look at its events, apply again", now.status)
        };
        checks.add("status", fine, found);
        let same = self.stack.template().await? == template::template().to_json();
        let text = if same {
            "that of this program"
        } else {
            "another one than that of this program; plan and apply"
        };
        checks.add("template", same, text.to_owned());
        let has_code = now.outputs.contains_key("TickFunction");
        let text =
            if has_code { "there" } else { "not there: the second step of apply is missing; apply again" };
        checks.add("functions", has_code, text.to_owned());
        Ok(())
    }

    async fn look_at_document(&self, all: &mut Vec<Check>, now: &Described) {
        let mut checks = Checks::about(all, "deployment document");
        let found = match self.deployment().await {
            Ok(found) => found,
            Err(error) => return checks.unreadable("content", &error),
        };
        match document::of(&self.stack.name, self.aws.region(), now, &found.verifier_key) {
            Ok(expected) => {
                let same = expected == found;
                let text = if same {
                    "as the stack's outputs say"
                } else {
                    "differs from the stack's outputs; apply again"
                };
                checks.add("content", same, text.to_owned());
            }
            Err(error) => checks.unreadable("content", &error),
        }
    }

    /// The archive that the functions read must be there and be the one that is pinned.
    async fn look_at_project(&self, all: &mut Vec<Check>, now: &Described) {
        let project = project_of(now);
        let mut checks = Checks::about(all, format!("project {project}"));
        let Ok(bucket) = now.output("DataBucket") else {
            return checks.add(
                "archive",
                false,
                "the stack does not name its bucket; apply again".to_owned(),
            );
        };
        let key = names::project_key(project.trim_start_matches("sha256:"));
        let bytes = match self.s3.get_object().bucket(bucket).key(&key).send().await {
            Ok(answer) => answer.body.collect().await.map_err(|error| error.to_string()),
            Err(error) => Err(CallError::new(error).to_string()),
        };
        match bytes {
            Ok(bytes) => checks.equal(
                "archive",
                Digest::of(&bytes.to_vec()).to_string(),
                project,
                "somebody changed it, and the tick refuses it: remove it and apply again",
            ),
            Err(error) => checks.unreadable("archive", &error),
        }
    }

    async fn look_at_key(&self, all: &mut Vec<Check>, now: &Described) {
        let (Ok(prefix), Ok(role)) = (now.output("SecretsPrefix"), now.output("TickRoleArn")) else {
            let mut checks = Checks::about(all, "signing key");
            return checks.add("secret", false, "the stack does not name it; apply again".to_owned());
        };
        let name = key::secret_name(prefix);
        let mut checks = Checks::about(all, format!("secret {name}"));
        match key::verifier_key(&self.secrets, &name).await {
            Ok(Some(verifier)) => checks.add("signing key", true, format!("verifier key {verifier}")),
            Ok(None) => checks.add("signing key", false, "there is none; apply again".to_owned()),
            Err(error) => checks.unreadable("signing key", &error),
        }
        match self.secrets.get_resource_policy().secret_id(&name).send().await {
            Ok(answer) => {
                let found =
                    answer.resource_policy().and_then(|text| serde_json::from_str::<Value>(text).ok());
                let same = found == Some(key::policy(role));
                let text = if same { "only the tick can read it" } else { "others may read it; apply again" };
                checks.add("policy", same, text.to_owned());
            }
            Err(error) => checks.unreadable("policy", &CallError::new(error)),
        }
    }

    async fn attack(&self, all: &mut Vec<Check>, now: &Described) {
        let Ok(bucket) = now.output("AnchorBucket") else {
            let mut checks = Checks::about(all, "anchor bucket");
            return checks.add("attack", false, "the stack does not name it; apply again".to_owned());
        };
        let mut checks = Checks::about(all, format!("anchor bucket {bucket}"));
        let clock = Arc::new(SystemClock);
        let trial = match S3Anchor::new(&self.aws, bucket, "", ANCHOR_FLOOR_DAYS, clock) {
            Ok(anchor) => anchor.try_to_break(ANCHOR_FLOOR_DAYS).await,
            Err(error) => Err(error),
        };
        let trial = match trial {
            Ok(trial) => trial,
            Err(error) => return checks.unreadable("attack", &chain(&error)),
        };
        for attempt in &trial.attempts {
            let what = format!("attack: {}", attempt.what);
            let found = if attempt.refused {
                format!("refused: {}", attempt.answer)
            } else {
                format!("NOT refused ({}): the lock or the policy is not in force here", attempt.answer)
            };
            checks.add(&what, attempt.refused, found);
        }
        let text =
            if trial.survived { "still there" } else { "GONE: this bucket does not hold what it is given" };
        checks.add("attack: the object afterwards", trial.survived, text.to_owned());
    }
}

fn chain(error: &AnchorError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}
