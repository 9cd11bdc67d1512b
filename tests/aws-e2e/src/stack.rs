//! Everything that a stack consists of.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use pangolin_aws::{Aws, Service};
use pangolin_aws_proxy::Proxy;
use pangolin_core::ids::{Digest, RunId};
use pangolin_ecs_fake::{EcsFake, StandIn};
use pangolin_lambda_fake::{
    Background, Disorder, Function, LambdaFake, Notifications, Queue, QueueSource, Rule, is_stopped_task,
    rule_target,
};
use pangolin_runtime::{
    aws::{Compiler, Stack, pack, processor},
    config::{Config, WorkspaceConfig},
    deployment::{Deployment, SubmitOptions},
    registry::{AdapterBinding, SubagentDoc},
};
use pangolin_s3_fake::{Ministack, S3Fake};
use pangolin_stack::{AnchorPlace, Architecture, DeploymentDocument, SCHEMA_VERSION, Workers, names};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{programs::program, scenes::repository};

/// Bucket of everything but checkpoints.
pub const DATA: &str = "data";

/// Bucket of checkpoints.
pub const ANCHOR: &str = "anchor";

const STACK: &str = "test";
const ORIGIN: &str = "pangolin.test/0123456789abcdef";
const SEED: &str = "4b825dc642cb6eb9a060e54bf8d69288fbee49044b825dc642cb6eb9a060e54b";
/// Image of the workers of the small project.
pub const IMAGE: &str =
    "registry.example/worker@sha256:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const PATIENCE: Duration = Duration::from_secs(180);

const CONFIG: &str = r#"namespace = "test"
[workspace]
repo = "repo"
[queues.default]
concurrency = 4
[executors.dispatch]
backend = "fargate"
network = "host"
image = "IMAGE"
cpus = 0.25
memory_mb = 512
grace_seconds = 2
[retry]
max_attempts = 2
base_ms = 50
cap_ms = 100
timeout_seconds = 60
"#;

/// What may differ.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How notifications of S3 come.
    pub disorder: Disorder,
    /// Whether events of ECS come twice and out of order.
    pub scrambled: bool,
    /// Ticks at once.
    pub ticks: usize,
    /// Time limit of a tick, in seconds.
    pub tick_seconds: u64,
    /// What the program of the tick is made for.
    pub architecture: Architecture,
}

impl Default for Options {
    fn default() -> Self {
        let here = if cfg!(target_arch = "aarch64") { Architecture::Arm64 } else { Architecture::X86_64 };
        Self {
            disorder: Disorder::default(),
            scrambled: false,
            ticks: 2,
            tick_seconds: 180,
            architecture: here,
        }
    }
}

/// A stack that runs until it is dropped.
pub struct EmulatedStack {
    /// S3.
    pub s3: S3Fake,
    /// ECS.
    pub ecs: EcsFake,
    /// Lambda.
    pub lambda: LambdaFake,
    /// What the functions call goes through it, and what workers ask with their pre-signed URLs. Callers are the names of the
    /// functions and `worker`. People at home and the queue that calls the tick are not behind it.
    pub proxy: Proxy,
    aws: Aws,
    /// The repository of the project, if it has one.
    repo: Option<PathBuf>,
    ministack: Ministack,
    _sources: Vec<Background>,
    _project: Option<TempDir>,
}

pub(crate) fn location() -> String {
    format!("s3://{DATA}/{}", names::DEPLOYMENT_KEY)
}

pub(crate) fn git(dir: &Path, arguments: &[&str]) {
    let output = Command::new("git").arg("-C").arg(dir).args(arguments).output().expect("git");
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A project with a repository.
fn project() -> TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    repository(&dir.path().join("repo"));
    fs::write(dir.path().join("pangolin.toml"), CONFIG.replace("IMAGE", IMAGE)).expect("a file");
    dir
}

impl EmulatedStack {
    /// Starts everything, with a small project and the programs in the directory of `tick`. `None` where the emulator is not
    /// installed; that was said on stderr.
    ///
    /// # Panics
    /// When something does not start.
    pub async fn start(tick: &Path, options: Options) -> Option<Self> {
        let project = project();
        let stack = Self::deploy(tick.parent().expect("a directory"), project.path(), options).await?;
        Some(Self { _project: Some(project), ..stack })
    }

    /// Like [`Self::start`] with a project that is there: a directory with a `pangolin.toml`. Each image of its
    /// executors stands for the worker program.
    ///
    /// # Panics
    /// When something does not start.
    pub async fn deploy(programs: &Path, project: &Path, options: Options) -> Option<Self> {
        let config = Config::find(project).expect("a configuration");
        let ministack = Ministack::start("the whole stack").await?;
        let (s3, ecs) = (S3Fake::start().await.expect("S3"), EcsFake::start().await.expect("ECS"));
        let lambda = LambdaFake::start().expect("Lambda");
        let aws = Aws::for_tests(&ministack.endpoint(), 3, Aws::http())
            .expect("clients")
            .with_endpoint(Service::S3, &s3.endpoint())
            .with_endpoint(Service::Ecs, &ecs.endpoint());
        s3.create_bucket(DATA);
        s3.create_locked_bucket(ANCHOR);
        let env = ["PANGOLIN_TASK_DIR={task}", "PATH=/usr/bin:/bin"].map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or_default();
            (name.to_owned(), value.to_owned())
        });
        let worker = program(programs, "pangolin-worker");
        for image in config.executors.values().filter_map(|executor| executor.image.as_ref()) {
            ecs.add_image(image, StandIn { program: worker.clone(), env: env.to_vec() });
        }
        if options.scrambled {
            ecs.scramble_events();
        }
        let (doorbell, project) = furnish_for(&aws, &s3, &config, options.architecture).await;
        let proxy = Proxy::new();
        let sources =
            connect(programs, &options, (&ministack, &s3, &ecs, &lambda), &proxy, (doorbell, project)).await;
        let repo = config.workspace.repo;
        Some(Self { s3, ecs, lambda, proxy, aws, repo, ministack, _sources: sources, _project: None })
    }

    /// What a program of a user needs in its environment to find the stack.
    #[must_use]
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ENDPOINT_URL", self.ministack.endpoint()),
            ("AWS_ENDPOINT_URL_S3", self.s3.endpoint()),
            ("AWS_ENDPOINT_URL_ECS", self.ecs.endpoint()),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_ACCESS_KEY_ID", "test".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
            ("PANGOLIN_REMOTE", location()),
        ]
    }

    /// The deployment as somebody at home sees it.
    ///
    /// # Panics
    /// When it cannot be opened.
    pub async fn at_home(&self) -> (Deployment, TempDir) {
        let dir = tempfile::tempdir().expect("a directory");
        let stack = Stack::open(self.aws.clone(), &location(), None, dir.path()).await.expect("a stack");
        let workspace = WorkspaceConfig { repo: self.repo.clone(), base: None };
        (stack.deployment(Some(workspace)).await.expect("a deployment"), dir)
    }

    /// Registers an agent that runs a shell script.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn agent(&self, home: &Deployment, name: &str, script: &str) {
        let params = json!({ "argv": ["sh", "-c", script] });
        let doc = SubagentDoc {
            name: name.to_owned(),
            system_prompt: None,
            prompt_template: None,
            model: None,
            capabilities: Vec::new(),
            adapter: AdapterBinding { id: "command".to_owned(), params },
            verify: None,
            context_requires: Vec::new(),
            require_changes: None,
        };
        home.registry().register_subagent(&doc, home.now()).await.expect("registered");
    }

    /// Submits a plan of `(item, agent, depends on)`.
    ///
    /// # Panics
    /// When it is refused at once.
    pub async fn submit(&self, home: &Deployment, run: &str, items: &[(&str, &str, &[&str])]) {
        let items: Vec<Value> = items
            .iter()
            .map(|(id, agent, after)| {
                json!({
                    "id": id, "executor": "dispatch", "inputs": { "subagent": agent },
                    "depends_on": after, "resourceLocks": [],
                })
            })
            .collect();
        let plan = json!({ "id": run, "queue": "default", "items": items }).to_string();
        let options = SubmitOptions { queue: None, actor: "human:test".to_owned() };
        home.submit(plan.as_bytes(), options).await.expect("submitted");
    }

    /// Looks each second whether a run has ended, and lets a minute of the schedule pass each time. Its work is done by other
    /// processes, so there is nothing to wait on.
    ///
    /// # Panics
    /// When it takes too long.
    pub async fn until_ended(&self, home: &Deployment, run: &str) -> String {
        let run = RunId::new(run).expect("an id");
        let begun = Instant::now();
        loop {
            if let Ok(Some(outcome)) = home.outcome(&run).await {
                return format!("{outcome:?}");
            }
            assert!(begun.elapsed() < PATIENCE, "run {run} did not end: {}", self.lambda.logs("tick"));
            tokio::time::sleep(Duration::from_secs(1)).await;
            self.lambda.tick_clock().await.expect("a tick");
        }
    }

    /// The anchor as an auditor sees it.
    ///
    /// # Panics
    /// When its retention is refused.
    #[must_use]
    pub fn anchor(&self) -> pangolin_anchor_s3::S3Anchor {
        let clock = std::sync::Arc::new(pangolin_ports::memory::SystemClock);
        pangolin_anchor_s3::S3Anchor::new(&self.aws, ANCHOR, "", 3650, clock).expect("an anchor")
    }

    /// Where the programs of the functions log.
    #[must_use]
    pub fn logs(&self) -> String {
        ["inbox", "tick", "task-events"].map(|name| self.lambda.logs(name)).concat()
    }
}

/// Makes what `deploy apply` makes: table, queue, key, documents. Answers the doorbell and the digest of the project.
pub(crate) async fn furnish(aws: &Aws, s3: &S3Fake, config: &Config) -> (Queue, Digest) {
    furnish_for(aws, s3, config, Options::default().architecture).await
}

/// The same with functions for another processor.
async fn furnish_for(aws: &Aws, s3: &S3Fake, config: &Config, architecture: Architecture) -> (Queue, Digest) {
    let dynamo = aws_sdk_dynamodb::Client::new(&aws.sdk(Service::DynamoDb));
    pangolin_store_dynamodb::create_table(&dynamo, "ledger").await.expect("a table");
    let sqs = aws_sdk_sqs::Client::new(&aws.sdk(Service::Sqs));
    let made = sqs.create_queue().queue_name("doorbell").send().await.expect("a queue");
    let doorbell = made.queue_url().expect("its URL").to_owned();
    let key = json!({ "name": ORIGIN, "seed": SEED }).to_string();
    let secrets = aws_sdk_secretsmanager::Client::new(&aws.sdk(Service::SecretsManager));
    let prefix = format!("pangolin/{STACK}/");
    let signing_key = format!("{prefix}{}", names::SIGNING_KEY);
    secrets.create_secret().name(&signing_key).secret_string(&key).send().await.expect("a secret");
    let parsed = pangolin_runtime::keys::parse(Path::new("key"), &key).expect("a key");
    // What ships, compiled by this process: it is no program that could start itself as a compiler.
    let packed = pack(config, Compiler::InProcess, processor(architecture)).expect("an archive");
    let project = Digest::of(&packed);
    let document = DeploymentDocument {
        schema_version: SCHEMA_VERSION,
        stack: STACK.to_owned(),
        region: "us-east-1".to_owned(),
        table: "ledger".to_owned(),
        data_bucket: DATA.to_owned(),
        project: project.to_string(),
        anchor: AnchorPlace { bucket: ANCHOR.to_owned(), retention_days: 3650 },
        doorbell_url: doorbell.clone(),
        workers: Workers {
            cluster: "default".to_owned(),
            architecture,
            subnets: vec!["subnet-1".to_owned()],
            security_groups: Vec::new(),
            assign_public_ip: false,
            family_prefix: names::task_family_prefix(STACK),
            task_role_arn: "arn:aws:iam::000000000000:role/task".to_owned(),
            execution_role_arn: "arn:aws:iam::000000000000:role/execution".to_owned(),
            log_group: "workers".to_owned(),
        },
        secrets_prefix: prefix,
        signing_key,
        verifier_key: parsed.signing.verifier_key().to_string(),
    };
    s3.plant(DATA, names::DEPLOYMENT_KEY, &document.to_bytes());
    s3.plant(DATA, &names::project_key(&project.hex()), &packed);
    (Queue::new(aws, &doorbell), project)
}

/// Deploys the functions and connects them with what calls them, as the template does.
async fn connect(
    programs: &Path,
    options: &Options,
    (ministack, s3, ecs, lambda): (&Ministack, &S3Fake, &EcsFake, &LambdaFake),
    proxy: &Proxy,
    (doorbell, project): (Queue, Digest),
) -> Vec<Background> {
    for (name, timeout, memory_mb, concurrency) in [
        ("inbox", 15, 128, 4),
        ("tick", options.tick_seconds, 1024, options.ticks),
        ("task-events", 15, 128, 4),
    ] {
        let program: PathBuf = program(programs, &format!("pangolin-lambda-{name}"));
        let front = async |upstream: String| proxy.front(name, &upstream).await.expect("a front");
        let mut function = Function::new(name, program)
            .env(names::ENV_DEPLOYMENT, &location())
            .env(names::ENV_DOORBELL, doorbell.url())
            .env(names::ENV_PROJECT, &project.to_string())
            .env(names::ENV_STACK, STACK)
            .env("AWS_ENDPOINT_URL", &front(ministack.endpoint()).await)
            .env("AWS_ENDPOINT_URL_S3", &front(s3.endpoint()).await)
            .env("AWS_ENDPOINT_URL_ECS", &front(ecs.endpoint()).await);
        function.timeout = Duration::from_secs(timeout);
        function.memory_mb = memory_mb;
        function.concurrency = concurrency;
        lambda.function(function).expect("a good function");
    }
    lambda.schedule("tick", json!({ "doorbell": "schedule" }).to_string());
    let rule = |prefix: &str, suffix: &str, function: &str| Rule {
        bucket: DATA.to_owned(),
        prefix: prefix.to_owned(),
        suffix: suffix.to_owned(),
        function: function.to_owned(),
    };
    let rules = vec![
        rule(names::INBOX_NEW_PREFIX, "", "inbox"),
        rule(names::DISPATCH_PREFIX, names::COMPLETION_SUFFIX, "task-events"),
    ];
    let notifications = Notifications::new(s3.created(), rules, options.disorder).run(lambda);
    let (url, target) = rule_target(lambda, "task-events", is_stopped_task).await.expect("a target");
    ecs.post_events_to(&url);
    let queue = QueueSource::new(doorbell, "tick").run(lambda, options.ticks);
    vec![notifications, target, queue]
}
