//! Plan, apply, status, destroy.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_sdk_cloudformation::types::ChangeSetType;
use aws_sdk_s3::{config::timeout::TimeoutConfig, primitives::ByteStream};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use pangolin_aws::{Aws, CallError, Service};
use pangolin_core::ids::Digest;
use serde::Serialize;
use serde_json::Value;

use crate::{
    DeployError, DeploymentDocument, Packages, Plan, Progress, Project, Settings, document, key, names,
    plan::Action,
    progress::Watch,
    settings::stack_name_problem,
    stack::{ChangeSet, Described, StackApi},
    template::{self, FUNCTIONS, NO_CODE, NO_PROJECT, STATEFUL},
};

/// Parameter of the stack with the digest of the project.
const PROJECT: &str = "Project";

/// Archives of projects that are younger than this are not removed: somebody else may be about to put one in force.
const PROJECT_AGE: Duration = Duration::from_secs(24 * 3_600);

/// Works on one stack in one account and region.
#[derive(Debug, Clone)]
pub struct Deployer {
    pub(crate) aws: Aws,
    pub(crate) stack: StackApi,
    pub(crate) s3: aws_sdk_s3::Client,
    pub(crate) secrets: aws_sdk_secretsmanager::Client,
    keep_projects: Duration,
}

/// What [`Deployer::apply`] did.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Applied {
    /// What the stack consists of now.
    pub deployment: DeploymentDocument,
    /// Whether the signing key was made by this call.
    pub made_key: bool,
    /// How many archives of code were uploaded; equal code is not uploaded again.
    pub uploaded: usize,
    /// Keys of archives of earlier projects that were removed.
    pub removed: Vec<String>,
}

/// A stack at a glance.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StackStatus {
    /// Name.
    pub stack: String,
    /// CloudFormation's status, as `UPDATE_COMPLETE`.
    pub status: String,
    /// Why, when CloudFormation says it.
    pub reason: Option<String>,
    /// Time of the last change, RFC 3339.
    pub changed: Option<String>,
    /// Whether the functions are there.
    pub has_code: bool,
    /// Whether the template is the one of this program.
    pub template_is_current: bool,
    /// Parameters.
    pub parameters: BTreeMap<String, String>,
    /// Outputs.
    pub outputs: BTreeMap<String, String>,
}

/// What to destroy besides what runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DestroyOptions {
    /// Also the anchor bucket. Always refused; here so that the refusal can be given with its reason.
    pub anchor: bool,
}

/// What is left after [`Deployer::destroy`].
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Destroyed {
    /// `kind name: why it stays and how it goes`.
    pub kept: Vec<String>,
}

impl Deployer {
    /// Makes no request.
    ///
    /// # Errors
    /// [`DeployError::Settings`] when the name cannot be one of a stack.
    pub fn new(aws: &Aws, stack: &str) -> Result<Self, DeployError> {
        Self::with_pause(aws, stack, Duration::from_secs(3))
    }

    /// As [`Deployer::new`], with another pause between two looks at a stack that changes.
    ///
    /// # Errors
    /// As [`Deployer::new`].
    pub fn with_pause(aws: &Aws, stack: &str, pause: Duration) -> Result<Self, DeployError> {
        if let Some(problem) = stack_name_problem(stack) {
            return Err(DeployError::Settings(vec![problem]));
        }
        let cloudformation = aws_sdk_cloudformation::Client::new(&aws.sdk(Service::CloudFormation));
        let s3 = aws_sdk_s3::config::Builder::from(&aws.sdk(Service::S3)).force_path_style(aws.path_style());
        Ok(Self {
            aws: aws.clone(),
            stack: StackApi::new(cloudformation, stack, pause),
            s3: aws_sdk_s3::Client::from_conf(s3.build()),
            secrets: aws_sdk_secretsmanager::Client::new(&aws.sdk(Service::SecretsManager)),
            keep_projects: PROJECT_AGE,
        })
    }

    /// The same with another age from which archives of projects that are not in force may be removed. The default is a day.
    #[must_use]
    pub const fn keeping_projects(mut self, age: Duration) -> Self {
        self.keep_projects = age;
        self
    }

    /// Computes what [`Deployer::apply`] would do. Changes nothing but that an existing stack gets a change set, which
    /// `apply` executes or [`Deployer::drop_plan`] removes. Without a `project` the one in force stays.
    ///
    /// # Errors
    /// [`DeployError`].
    pub async fn plan(
        &self,
        settings: &Settings,
        packages: &Packages,
        project: Option<&Project>,
    ) -> Result<Plan, DeployError> {
        self.check(settings, packages)?;
        let name = &self.stack.name;
        let code = code_of(packages);
        let wanted = project.map(|project| project.digest().to_string());
        match self.stack.describe().await? {
            None => {
                let suffix = new_suffix()?;
                let project = wanted.unwrap_or_else(|| NO_PROJECT.to_owned());
                let parameters = parameters(settings, &suffix, &code, &project);
                let proposed = self.propose(ChangeSetType::Create, settings, &parameters).await?;
                // The stack is made without functions first, because their code needs its bucket; so this set is for
                // reading only.
                self.stack.forget_review().await?;
                let changes = proposed.map_or_else(Vec::new, |set| set.changes);
                Ok(Plan::new(name, suffix, project, true, changes, None))
            }
            Some(now) => {
                self.expect_at_rest(&now)?;
                let suffix = suffix_of(&now)?;
                let project = wanted.unwrap_or_else(|| project_of(&now));
                let parameters = parameters(settings, &suffix, &code, &project);
                let proposed = self.propose(ChangeSetType::Update, settings, &parameters).await?;
                let (id, changes) = proposed.map_or((None, Vec::new()), |set| (Some(set.id), set.changes));
                Ok(Plan::new(name, suffix, project, false, changes, id))
            }
        }
    }

    /// The stack that it works on.
    #[must_use]
    pub fn stack(&self) -> &str {
        &self.stack.name
    }

    /// The region that it works in.
    #[must_use]
    pub fn region(&self) -> &str {
        self.aws.region()
    }

    /// Where CloudFormation is asked, when that is not AWS but an emulator or a proxy.
    #[must_use]
    pub fn endpoint(&self) -> Option<String> {
        self.aws.endpoint(Service::CloudFormation)
    }

    /// Removes the change set of a plan that is not wanted.
    ///
    /// # Errors
    /// [`DeployError::Call`].
    pub async fn drop_plan(&self, plan: &Plan) -> Result<(), DeployError> {
        match &plan.change_set {
            Some(id) => self.stack.drop_change_set(id).await,
            None => Ok(()),
        }
    }

    /// Carries a plan out; `project` is the one that it was made with. Until CloudFormation has switched the functions they
    /// go on with the project that was packed for them, and so they do when it rolls back. May be repeated after a
    /// failure, with a new plan.
    ///
    /// # Errors
    /// [`DeployError`]; [`DeployError::DataAtRisk`] and [`DeployError::Refused`] (another project than planned) before
    /// anything is done.
    pub async fn apply(
        &self,
        plan: &Plan,
        settings: &Settings,
        packages: &Packages,
        project: &Project,
        watch: Watch<'_>,
    ) -> Result<Applied, DeployError> {
        self.check(settings, packages)?;
        let digest = project.digest().to_string();
        if plan.project != digest {
            return Err(DeployError::Refused(format!(
                "the plan is for project {}, and this one is {digest}; plan again",
                plan.project
            )));
        }
        let at_risk = plan.endangered();
        if !at_risk.is_empty() {
            return Err(DeployError::DataAtRisk(at_risk));
        }
        let step = |text: &str| watch(Progress::Step(text.to_owned()));
        if plan.creates {
            step("making table, buckets, queues, roles and network");
            let bare = [NO_CODE, NO_CODE, NO_CODE].map(str::to_owned);
            let parameters = parameters(settings, &plan.suffix, &bare, NO_PROJECT);
            let set = self.propose(ChangeSetType::Create, settings, &parameters).await?;
            let set =
                set.ok_or_else(|| DeployError::Unexpected("a new stack without resources".to_owned()))?;
            let now = self.stack.execute(&set.id, watch).await?;
            let (uploaded, made_key) = self.furnish(&now, packages, project, watch).await?;
            step("making functions");
            let parameters = self::parameters(settings, &plan.suffix, &code_of(packages), &digest);
            if let Some(set) = self.propose(ChangeSetType::Update, settings, &parameters).await? {
                let id = set.id;
                let (suffix, project) = (plan.suffix.clone(), digest.clone());
                expect_additions(Plan::new(&self.stack.name, suffix, project, false, set.changes, None))?;
                self.stack.execute(&id, watch).await?;
            }
            return self.finish(uploaded, made_key, &digest, watch).await;
        }
        let now = self.stack.expect().await?;
        self.expect_at_rest(&now)?;
        let before = project_of(&now);
        let (uploaded, made_key) = self.furnish(&now, packages, project, watch).await?;
        if let Some(set) = &plan.change_set {
            step("changing the stack");
            self.stack.execute(set, watch).await?;
        }
        self.finish(uploaded, made_key, &before, watch).await
    }

    /// The deployment document of the stack, from its data bucket.
    ///
    /// # Errors
    /// [`DeployError::NoStack`], [`DeployError::Call`], [`DeployError::Unexpected`].
    pub async fn deployment(&self) -> Result<DeploymentDocument, DeployError> {
        let now = self.stack.expect().await?;
        let bucket = now.output("DataBucket")?;
        let doing = format!("reading s3://{bucket}/{}", names::DEPLOYMENT_KEY);
        let answer = self.s3.get_object().bucket(bucket).key(names::DEPLOYMENT_KEY).send().await;
        let answer = answer.map_err(CallError::new).map_err(DeployError::call(doing.clone()))?;
        let bytes = answer
            .body
            .collect()
            .await
            .map_err(|error| DeployError::Unexpected(format!("{doing}: {error}")))?;
        Ok(DeploymentDocument::parse(&bytes.to_vec())?)
    }

    /// The stack at a glance.
    ///
    /// # Errors
    /// [`DeployError::NoStack`], [`DeployError::Call`].
    pub async fn status(&self) -> Result<StackStatus, DeployError> {
        let now = self.stack.expect().await?;
        let in_force = self.stack.template().await?;
        Ok(StackStatus {
            stack: self.stack.name.clone(),
            template_is_current: in_force == template::template().to_json(),
            has_code: now.outputs.contains_key("TickFunction"),
            status: now.status,
            reason: now.reason,
            changed: now.changed,
            parameters: now.parameters,
            outputs: now.outputs,
        })
    }

    /// Removes what runs. What holds data stays, and the answer names it.
    ///
    /// # Errors
    /// [`DeployError::Refused`] when the anchor bucket is asked for, or when the template in force would delete data;
    /// [`DeployError::Failed`] when something cannot be removed.
    pub async fn destroy(&self, options: DestroyOptions, watch: Watch<'_>) -> Result<Destroyed, DeployError> {
        if options.anchor {
            return Err(DeployError::Refused(
                "the anchor bucket is never destroyed: its objects are locked, and they are the proof of runs that others may hold bundles of".to_owned(),
            ));
        }
        let now = self.stack.expect().await?;
        if now.status.ends_with("_IN_PROGRESS") {
            return Err(self.state(&now.status, "wait until it is at rest"));
        }
        // Somebody else's stack has no such parameter.
        suffix_of(&now)?;
        let in_force = self.stack.template().await?;
        let unprotected: Vec<_> = STATEFUL
            .iter()
            .filter(|id| {
                let resource = in_force.get("Resources").and_then(|all| all.get(**id));
                resource.is_some_and(|it| it.get("DeletionPolicy").and_then(Value::as_str) != Some("Retain"))
            })
            .copied()
            .collect();
        if !unprotected.is_empty() {
            return Err(DeployError::Refused(format!(
                "the template in force would delete {}; apply this program's template first",
                unprotected.join(", ")
            )));
        }
        let mut kept = Vec::new();
        let mut keep = |what: &str, output: &str, why: &str| {
            if let Some(name) = now.outputs.get(output) {
                kept.push(format!("{what} {name}: {why}"));
            }
        };
        keep("anchor bucket", "AnchorBucket", "locked objects; nobody can remove them before their dates");
        keep(
            "data bucket",
            "DataBucket",
            "blobs of sealed runs; empty and delete it when no bundle will be asked for again",
        );
        keep(
            "table",
            "TableName",
            "the ledger; switch its deletion protection off and delete it to lose all runs",
        );
        if let Some(prefix) = now.outputs.get("SecretsPrefix") {
            kept.push(format!(
                "secret {}: signs what the ledger proves; delete it with the table (about $0.40 a month)",
                key::secret_name(prefix)
            ));
        }
        watch(Progress::Step("removing functions, queues, roles, cluster and network".to_owned()));
        self.stack.delete(watch).await?;
        Ok(Destroyed { kept })
    }

    fn check(&self, settings: &Settings, packages: &Packages) -> Result<(), DeployError> {
        let mut findings = Vec::new();
        if settings.stack != self.stack.name {
            findings.push(format!("stack is {:?} here and {:?} there", settings.stack, self.stack.name));
        }
        for result in [settings.check(), packages.check()] {
            match result {
                Err(DeployError::Settings(found)) => findings.extend(found),
                Err(error) => return Err(error),
                Ok(()) => {}
            }
        }
        if findings.is_empty() { Ok(()) } else { Err(DeployError::Settings(findings)) }
    }

    async fn propose(
        &self,
        kind: ChangeSetType,
        settings: &Settings,
        parameters: &[(&str, String)],
    ) -> Result<Option<ChangeSet>, DeployError> {
        self.stack.propose(kind, &template::body(), parameters, &settings.tags).await
    }

    fn state(&self, status: &str, next: &str) -> DeployError {
        let (stack, status) = (self.stack.name.clone(), status.to_owned());
        DeployError::State { stack, status, next: next.to_owned() }
    }

    fn expect_at_rest(&self, now: &Described) -> Result<(), DeployError> {
        match now.status.as_str() {
            "CREATE_COMPLETE" | "UPDATE_COMPLETE" | "UPDATE_ROLLBACK_COMPLETE" => Ok(()),
            "ROLLBACK_COMPLETE" | "CREATE_FAILED" | "ROLLBACK_FAILED" | "DELETE_FAILED" => Err(self.state(
                &now.status,
                "it never came to be and cannot be changed: `pangolin deploy destroy`, then apply again",
            )),
            "UPDATE_ROLLBACK_FAILED" => Err(self.state(
                &now.status,
                "continue its rollback in CloudFormation (ContinueUpdateRollback), then apply again",
            )),
            status => Err(self.state(status, "wait until it is at rest")),
        }
    }

    /// Code, key and configuration: everything that functions need before they run.
    async fn furnish(
        &self,
        now: &Described,
        packages: &Packages,
        project: &Project,
        watch: Watch<'_>,
    ) -> Result<(usize, bool), DeployError> {
        let bucket = now.output("DataBucket")?;
        let mut uploaded = 0;
        for (function, package) in FUNCTIONS.iter().zip(packages.all()) {
            let what = format!("code of {}", function.name);
            uploaded += usize::from(self.upload(bucket, &package.key(), &package.bytes, &what, watch).await?);
        }
        self.upload(bucket, &project.key(), &project.bytes, "the project", watch).await?;
        let prefix = now.output("SecretsPrefix")?;
        let (verifier, made) =
            key::ensure(&self.secrets, &self.stack.name, prefix, now.output("TickRoleArn")?).await?;
        if made {
            watch(Progress::Step(format!("made the signing key; verifier key: {verifier}")));
        }
        let mut document = document::of(&self.stack.name, self.aws.region(), now, &verifier)?;
        if document.project == NO_PROJECT {
            document.project = project.digest().to_string();
        }
        self.put(bucket, names::DEPLOYMENT_KEY, document.to_bytes()).await?;
        Ok((uploaded, made))
    }

    /// Writes what is named by its content, unless it is there; answers whether it was not.
    async fn upload(
        &self,
        bucket: &str,
        key: &str,
        bytes: &[u8],
        what: &str,
        watch: Watch<'_>,
    ) -> Result<bool, DeployError> {
        let found = self.s3.head_object().bucket(bucket).key(key).send().await.map_err(CallError::new);
        if found.as_ref().is_err_and(|error| error.status() == Some(404)) {
            watch(Progress::Step(format!("uploading {what} ({} bytes)", bytes.len())));
            self.put(bucket, key, bytes.to_vec()).await?;
            return Ok(true);
        }
        found.map_err(DeployError::call(format!("looking for s3://{bucket}/{key}")))?;
        Ok(false)
    }

    /// Removes archives of projects that nobody can need any more: neither the one in force nor the one `before`, and older
    /// than what [`Deployer::keeping_projects`] says, so that what somebody else just uploaded stays.
    async fn forget_projects(&self, now: &Described, before: &str) -> Result<Vec<String>, DeployError> {
        let bucket = now.output("DataBucket")?;
        let hex = |digest: &str| digest.trim_start_matches("sha256:").to_owned();
        let kept = [project_of(now), before.to_owned()].map(|digest| names::project_key(&hex(&digest)));
        let doing = format!("looking at s3://{bucket}/{}", names::PROJECT_PREFIX);
        let mut pages =
            self.s3.list_objects_v2().bucket(bucket).prefix(names::PROJECT_PREFIX).into_paginator().send();
        let border = SystemTime::now()
            .checked_sub(self.keep_projects)
            .and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let border = border.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX));
        let mut removed = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(CallError::new).map_err(DeployError::call(doing.clone()))?;
            for object in page.contents() {
                let (Some(key), Some(at)) = (object.key(), object.last_modified()) else { continue };
                if kept.iter().any(|kept| kept == key) || at.secs() > border {
                    continue;
                }
                let request = self.s3.delete_object().bucket(bucket).key(key).send().await;
                let doing = format!("removing s3://{bucket}/{key}");
                request.map_err(CallError::new).map_err(DeployError::call(doing))?;
                removed.push(key.to_owned());
            }
        }
        Ok(removed)
    }

    /// Writes the document again, because outputs may be other ones after a change. `before` is the project that was in
    /// force.
    async fn finish(
        &self,
        uploaded: usize,
        made_key: bool,
        before: &str,
        watch: Watch<'_>,
    ) -> Result<Applied, DeployError> {
        let now = self.stack.expect().await?;
        let name = key::secret_name(now.output("SecretsPrefix")?);
        let verifier = key::verifier_key(&self.secrets, &name).await?;
        let verifier = verifier.ok_or_else(|| {
            DeployError::Unexpected(format!("secret {name} with the signing key is gone again"))
        })?;
        let deployment = document::of(&self.stack.name, self.aws.region(), &now, &verifier)?;
        self.put(now.output("DataBucket")?, names::DEPLOYMENT_KEY, deployment.to_bytes()).await?;
        let removed = self.forget_projects(&now, before).await.unwrap_or_else(|error| {
            // The stack is in place all the same, and the next time removes them.
            watch(Progress::Step(format!("archives of earlier projects stay: {error}")));
            Vec::new()
        });
        Ok(Applied { deployment, made_key, uploaded, removed })
    }

    async fn put(&self, bucket: &str, key: &str, bytes: Vec<u8>) -> Result<(), DeployError> {
        let checksum = STANDARD.encode(Digest::of(&bytes).as_bytes());
        let request = self.s3.put_object().bucket(bucket).key(key).checksum_sha256(checksum);
        // The ordinary limit is for an answer to begin, counted from the start of the request: archives take longer on a
        // slow line.
        let patient = TimeoutConfig::builder().disable_read_timeout().build();
        let config = aws_sdk_s3::config::Config::builder().timeout_config(patient);
        let sent = request.body(ByteStream::from(bytes)).customize().config_override(config).send().await;
        sent.map(drop)
            .map_err(CallError::new)
            .map_err(DeployError::call(format!("writing s3://{bucket}/{key}")))
    }
}

fn code_of(packages: &Packages) -> [String; 3] {
    packages.all().map(crate::Package::key)
}

fn parameters(
    settings: &Settings,
    suffix: &str,
    code: &[String; 3],
    project: &str,
) -> Vec<(&'static str, String)> {
    let mut all = settings.parameters();
    all.push(("Suffix", suffix.to_owned()));
    all.push((PROJECT, project.to_owned()));
    all.extend(FUNCTIONS.iter().zip(code).map(|(function, key)| (function.code, key.clone())));
    all
}

fn suffix_of(now: &Described) -> Result<String, DeployError> {
    now.parameters.get("Suffix").cloned().ok_or_else(|| {
        DeployError::Refused("the stack has no parameter Suffix: it was not made by this program".to_owned())
    })
}

/// Digest of the project in force.
pub(crate) fn project_of(now: &Described) -> String {
    now.parameters.get(PROJECT).cloned().unwrap_or_else(|| NO_PROJECT.to_owned())
}

fn new_suffix() -> Result<String, DeployError> {
    let random = getrandom::u32()
        .map_err(|error| DeployError::Unexpected(format!("the system gives no random number: {error}")))?;
    Ok(format!("{random:08x}"))
}

/// The second step of a new stack adds functions and connects them; nothing that was just made may go.
fn expect_additions(plan: Plan) -> Result<(), DeployError> {
    let mut other = plan.endangered();
    other.extend(
        plan.changes
            .iter()
            .filter(|change| matches!(change.action, Action::Remove | Action::Replace))
            .map(ToString::to_string),
    );
    if other.is_empty() { Ok(()) } else { Err(DeployError::DataAtRisk(other)) }
}
