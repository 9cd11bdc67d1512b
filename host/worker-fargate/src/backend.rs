//! The backend itself.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use aws_sdk_ecs::types::{Task, TaskStopCode};
use pangolin_aws::{Aws, Service};
use pangolin_blob_s3::{Presigner, S3BlobStore};
use pangolin_core::{
    entry::{Isolation, IsolationUsed},
    ids::{Digest, DispatchId},
};
use pangolin_envelope::start::{CLAIMED_ELSEWHERE, Claim, Completion, EndedBy, START_VERSION};
use pangolin_ports::worker_backend::{BackendError, Network, Started, WorkerBackend, WorkerExit, WorkerSpec};

use crate::{
    archive::{self, Bounds},
    config::{ConfigError, FargateConfig},
    definition::{Definitions, Wanted, is_by_digest},
    error::io as io_failed,
    glance::{Glances, Seen},
    keys::Keys,
    objects::Objects,
    records::{
        ARCHIVE, CLAIM, COMPLETION, MEMO, Memo, Reason, STARTER, STOP, Stop, TASK, TaskRecord, VERDICT,
        VERSION, Verdict,
    },
    size::TaskSize,
    stage::{self, Stager, blocking},
    tasks::{OVERRIDES_MAX, Order, Ran, Tasks, overrides_length},
};

/// In a result directory: the digest of the archive that was unpacked into it.
const FETCHED: &str = ".pangolin-fetched";

/// Beyond all limits that the worker itself keeps, before a host that is awake stops its task.
const OVERDUE_SLACK_MS: u64 = 300_000;

/// Runs workers as Fargate tasks. Cheap to open; keeps nothing that it cannot find again.
#[derive(Debug)]
pub struct FargateBackend {
    config: FargateConfig,
    keys: Keys,
    objects: Objects,
    blobs: S3BlobStore,
    presigner: Presigner,
    tasks: Tasks,
    definitions: Definitions,
    /// Where the results of dispatches go on this host.
    result_dirs: Mutex<HashMap<DispatchId, PathBuf>>,
    /// Start documents that this host has seen deleted.
    begun: Mutex<HashSet<DispatchId>>,
    /// Looks at all dispatches at once.
    glances: Glances,
    /// Until when a worker keeps its limits by itself, where this host knows it.
    overdue: Mutex<HashMap<DispatchId, i64>>,
    /// One caller at a time for each dispatch.
    locks: Mutex<HashMap<DispatchId, Arc<tokio::sync::Mutex<()>>>>,
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn millis(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unsupported(dispatch: &DispatchId, problem: impl Into<String>) -> BackendError {
    BackendError::Unsupported { dispatch: dispatch.clone(), problem: problem.into() }
}

fn lost(detail: impl Into<String>) -> WorkerExit {
    WorkerExit::Lost { detail: detail.into() }
}

fn random() -> Result<String, BackendError> {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| io_failed("draw a random number")(io::Error::other(error.to_string())))?;
    Ok(Digest::of(&bytes).hex()[..32].to_owned())
}

impl FargateBackend {
    /// A backend. Makes no request.
    ///
    /// # Errors
    /// [`ConfigError`] with everything that is wrong with the configuration.
    pub fn open(aws: &Aws, config: FargateConfig) -> Result<Self, ConfigError> {
        config.check()?;
        let keys = Keys::new(&config);
        let ecs = aws_sdk_ecs::Client::new(&aws.sdk(Service::Ecs));
        let blobs = S3BlobStore::new(aws, &config.bucket, &config.prefix);
        Ok(Self {
            objects: Objects::new(aws, &config.bucket),
            presigner: blobs.presigner(),
            blobs,
            tasks: Tasks::new(ecs.clone(), &config),
            definitions: Definitions::new(ecs, keys.clone(), &config, aws.region()),
            keys,
            config,
            result_dirs: Mutex::default(),
            begun: Mutex::default(),
            glances: Glances::default(),
            overdue: Mutex::default(),
            locks: Mutex::default(),
        })
    }

    /// `startedBy` of the task of a dispatch: what a state-change event names.
    #[must_use]
    pub fn started_by(&self, dispatch: &DispatchId) -> String {
        self.keys.started_by(dispatch)
    }

    async fn lock(&self, dispatch: &DispatchId) -> tokio::sync::OwnedMutexGuard<()> {
        let lock = held(&self.locks).entry(dispatch.clone()).or_default().clone();
        lock.lock_owned().await
    }

    fn isolation(&self, level: Isolation, network: Network) -> Result<IsolationUsed, BackendError> {
        let unavailable = |missing: &str| {
            Err(BackendError::IsolationUnavailable { requested: level, missing: missing.to_owned() })
        };
        if level != Isolation::Container {
            return unavailable(
                "Fargate runs containers only; set isolation = \"container\" for this executor",
            );
        }
        if network == Network::None {
            return unavailable(
                "Fargate cannot take the network from an agent while its worker uploads results; set network = \"host\" for \
                 this executor and bound it with a security group, or run the item with Docker",
            );
        }
        let mechanisms =
            ["cap-drop-all", "fargate-task", "non-root-user", "read-only-root", "task-cpu", "task-memory"];
        Ok(IsolationUsed {
            level,
            mechanisms: mechanisms.map(str::to_owned).into(),
            network: "host".to_owned(),
            image: None,
        })
    }

    /// Everything that can be said about a specification without a request: image, size, life of URLs.
    fn check(&self, spec: &WorkerSpec) -> Result<(String, TaskSize, Duration), BackendError> {
        let dispatch = &spec.dispatch;
        let Some(image) = &spec.image else {
            return Err(unsupported(
                dispatch,
                "tasks need an image; set one for the item, the executor or in the configuration",
            ));
        };
        if !is_by_digest(image) {
            return Err(BackendError::Image {
                image: image.clone(),
                detail: "name it by digest (repository@sha256:…): a tag may move between what is sealed and what runs"
                    .to_owned(),
            });
        }
        let mut problems = Vec::new();
        for (what, dir) in [("envelope", &spec.envelope_dir), ("workspace", &spec.workspace_dir)] {
            if !dir.is_absolute() || !dir.is_dir() {
                problems
                    .push(format!("its {what} directory {} is not an absolute, existing one", dir.display()));
            }
        }
        if !spec.result_dir.is_absolute() || spec.result_dir.parent().is_none() {
            problems.push(format!("its result directory {} is not absolute", spec.result_dir.display()));
        }
        if spec.result_key.len() != 64 || !spec.result_key.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            problems.push("its result key is not 64 hex digits".to_owned());
        }
        let size = TaskSize::of(&spec.limits).map_err(|problem| problems.push(problem));
        let life = stage::upload_life(&self.config, spec).map_err(|problem| problems.push(problem));
        match (size, life) {
            (Ok(size), Ok(life)) if problems.is_empty() => Ok((image.clone(), size, life)),
            _ => Err(unsupported(dispatch, problems.join("; "))),
        }
    }

    async fn record<T: serde::de::DeserializeOwned>(
        &self,
        dispatch: &DispatchId,
        name: &str,
    ) -> Result<Option<T>, BackendError> {
        self.objects.record(&self.keys.record(dispatch, name)).await
    }

    /// What the worker of a dispatch left under a name.
    async fn left<T: serde::de::DeserializeOwned>(
        &self,
        dispatch: &DispatchId,
        name: &str,
    ) -> Result<Option<Result<T, String>>, BackendError> {
        self.objects.left(&self.keys.record(dispatch, name)).await
    }

    async fn create(
        &self,
        dispatch: &DispatchId,
        name: &str,
        record: &impl serde::Serialize,
    ) -> Result<bool, BackendError> {
        self.objects.create(&self.keys.record(dispatch, name), record).await
    }

    /// Writes down what is asked for, or finds what was.
    async fn memo(&self, spec: &WorkerSpec, image: &str) -> Result<Memo, BackendError> {
        let dispatch = &spec.dispatch;
        let mut isolation = self.isolation(spec.isolation, spec.network)?;
        isolation.image = Some(image.to_owned());
        let memo = Memo {
            schema_version: VERSION,
            isolation,
            limits: spec.limits,
            key: Digest::of(spec.result_key.as_bytes()),
            result_dir: spec.result_dir.clone(),
            at: now_ms(),
        };
        let found = if self.create(dispatch, MEMO, &memo).await? {
            memo.clone()
        } else {
            self.record(dispatch, MEMO).await?.ok_or_else(|| {
                BackendError::Unavailable(format!("the records of {dispatch} are being removed; try again"))
            })?
        };
        if found.key != memo.key {
            return Err(unsupported(
                dispatch,
                "it was started with another result key, so its result could not be checked; derive the key from the \
                 deployment and the dispatch, or keep it where every host finds it",
            ));
        }
        Ok(found)
    }

    /// Writes down a task unless one is written down under that name; gives the record that is there then. `None`: the
    /// dispatch is being removed.
    async fn kept(
        &self,
        dispatch: &DispatchId,
        name: &str,
        record: &TaskRecord,
    ) -> Result<Option<TaskRecord>, BackendError> {
        if self.create(dispatch, name, record).await? {
            return Ok(Some(record.clone()));
        }
        self.record(dispatch, name).await
    }

    /// Writes down a task that somebody else started; what is there is kept.
    async fn note_found(&self, dispatch: &DispatchId, arn: &str) -> Result<(), BackendError> {
        self.note(dispatch, arn, String::new()).await.map(|_| ())
    }

    /// Writes down a task that ECS gave to this call. `true` for exactly one of the calls that it was given to: the token
    /// gives the same task to all that ask with the same parameters.
    async fn note_started(&self, dispatch: &DispatchId, arn: &str) -> Result<bool, BackendError> {
        let own = random()?;
        let Some(found) = self.note(dispatch, arn, own.clone()).await? else { return Ok(false) };
        if !found.nonce.is_empty() {
            // Ours also when the answer to it was lost.
            return Ok(found.nonce == own);
        }
        // One who found the task was quicker. It is on record; who started it is not.
        let record = TaskRecord { nonce: own, ..found };
        let first = self.kept(dispatch, STARTER, &record).await?;
        Ok(first.is_some_and(|first| first.nonce == record.nonce))
    }

    /// The record of the dispatch's task, when it is this one. Another one is stopped.
    async fn note(
        &self,
        dispatch: &DispatchId,
        arn: &str,
        nonce: String,
    ) -> Result<Option<TaskRecord>, BackendError> {
        let record = TaskRecord { schema_version: VERSION, arn: arn.to_owned(), nonce, at: now_ms() };
        let found = self.kept(dispatch, TASK, &record).await?;
        if let Some(found) = found.as_ref().filter(|found| found.arn != arn) {
            // Cannot be as far as the documentation goes. The claim lets only one of them work.
            tracing::error!(%dispatch, one = %found.arn, other = %arn, "two tasks were started; stopping one");
            self.tasks.stop(arn, "Pangolin: another task has this dispatch").await?;
            return Ok(None);
        }
        Ok(found)
    }

    /// The task of a dispatch, from the record or from ECS.
    async fn task(&self, dispatch: &DispatchId) -> Result<Option<TaskRecord>, BackendError> {
        if let Some(record) = self.record(dispatch, TASK).await? {
            return Ok(Some(record));
        }
        let arns = self.tasks.list(&self.keys.started_by(dispatch)).await?;
        let Some(arn) = arns.first() else { return Ok(None) };
        self.note_found(dispatch, arn).await?;
        self.record(dispatch, TASK).await
    }

    /// Whether there is, was, or shall be no task.
    async fn is_started(&self, dispatch: &DispatchId) -> Result<bool, BackendError> {
        Ok(self.left::<Completion>(dispatch, COMPLETION).await?.is_some()
            || self.record::<Verdict>(dispatch, VERDICT).await?.is_some()
            || self.task(dispatch).await?.is_some()
            || self.record::<Stop>(dispatch, STOP).await?.is_some())
    }

    /// Starts the task unless there is, was, or shall be none. Call with the dispatch's lock held. `true` when this call
    /// started it.
    async fn start_once(
        &self,
        spec: &WorkerSpec,
        ready: (String, TaskSize, Duration),
    ) -> Result<bool, BackendError> {
        let dispatch = &spec.dispatch;
        if self.is_started(dispatch).await? {
            return Ok(false);
        }
        let (image, size, life) = ready;
        let stager = Stager {
            config: &self.config,
            keys: &self.keys,
            objects: &self.objects,
            blobs: &self.blobs,
            presigner: &self.presigner,
        };
        let url = stager.stage(spec, life).await?.url;
        let length = overrides_length(&self.config.container, &url);
        if length > OVERRIDES_MAX {
            self.objects.delete(&self.keys.start(dispatch)).await?;
            return Err(unsupported(
                dispatch,
                format!(
                    "the overrides of its task have {length} characters, ECS takes {OVERRIDES_MAX}; shorten the prefix, or \
                     use credentials with a shorter session token"
                ),
            ));
        }
        let definition = self.definitions.arn(&Wanted::new(&image, size, spec.limits.grace_ms)).await?;
        let (token, started_by) = (self.keys.token(dispatch), self.keys.started_by(dispatch));
        let order = Order { definition: &definition, token: &token, started_by: &started_by, url: &url };
        match self.tasks.run(dispatch, order).await? {
            Ran::Task(arn) => self.note_started(dispatch, &arn).await,
            Ran::Conflict(arns) => {
                let Some(arn) = arns.first() else {
                    return Err(BackendError::Unavailable(format!(
                        "ECS knows a task of {dispatch} but does not name it yet; try again"
                    )));
                };
                self.note_found(dispatch, arn).await?;
                Ok(false)
            }
        }
    }

    /// Deletes the start document once the worker has read it.
    async fn tidy(&self, dispatch: &DispatchId, certain: bool) -> Result<(), BackendError> {
        if held(&self.begun).contains(dispatch) {
            return Ok(());
        }
        if certain || self.left::<Claim>(dispatch, CLAIM).await?.is_some() {
            self.objects.delete(&self.keys.start(dispatch)).await?;
            held(&self.begun).insert(dispatch.clone());
        }
        Ok(())
    }

    /// One look. `None`: not ended, as far as can be known.
    async fn look(&self, dispatch: &DispatchId) -> Result<Option<WorkerExit>, BackendError> {
        if let Some(exit) = self.completed(dispatch).await? {
            return Ok(Some(exit));
        }
        let Some(memo) = self.record::<Memo>(dispatch, MEMO).await? else {
            return Ok(Some(lost("there is no record of it: it was never started, or it was removed")));
        };
        if let Some(verdict) = self.record::<Verdict>(dispatch, VERDICT).await? {
            return Ok(Some(verdict.into()));
        }
        let stop = self.record::<Stop>(dispatch, STOP).await?;
        let visibility = millis(self.config.visibility_ms);
        let Some(record) = self.task(dispatch).await? else {
            // A host may be between its memo and its task, but not for ever.
            if now_ms() < memo.at.saturating_add(visibility) {
                return Ok(None);
            }
            let exit = stop.map_or_else(|| lost("its task was never started"), |stop| stop.reason.exit());
            return self.judge(dispatch, exit).await.map(Some);
        };
        let Some(task) = self.tasks.describe(&record.arn).await? else {
            if now_ms() < record.at.saturating_add(visibility) {
                return Ok(None);
            }
            let exit = stop.map_or_else(
                || {
                    lost(format!(
                        "ECS does not know its task {} any more and it left no completion",
                        record.arn
                    ))
                },
                |stop| stop.reason.exit(),
            );
            return self.judge(dispatch, exit).await.map(Some);
        };
        if task.last_status() != Some("STOPPED") {
            held(&self.overdue).insert(dispatch.clone(), self.overdue_at(&memo, &record));
            self.tidy(dispatch, false).await?;
            match stop {
                // It is on record before ECS is asked, and ECS may not have taken it.
                Some(stop) if task.desired_status() != Some("STOPPED") => {
                    self.stop_all(dispatch, &record, stop.reason).await?;
                }
                Some(_) => {}
                None => self.stop_overdue(dispatch, &memo, &record).await?,
            }
            return Ok(None);
        }
        // A completion may still be on its way when ECS already says that the task is over.
        let stopped_at = task.stopped_at().and_then(|at| at.to_millis().ok()).unwrap_or(record.at);
        if now_ms() < stopped_at.saturating_add(millis(self.config.settle_ms)) {
            return Ok(None);
        }
        let container = &self.config.container;
        let elsewhere = exit_code(&task, container) == Some(CLAIMED_ELSEWHERE);
        if elsewhere && stop.is_none() && now_ms() < self.overdue_at(&memo, &record) {
            // Its end is not the end of the dispatch: the task that was first will leave the completion.
            return Ok(None);
        }
        self.judge(dispatch, ended(&task, stop.map(|stop| stop.reason), container)).await.map(Some)
    }

    async fn glance(&self) -> Result<Arc<Seen>, BackendError> {
        self.glances
            .share(|| async {
                let (records, starts) = (self.keys.all(), self.keys.starts());
                // Tasks first: one that ends meanwhile has its completion in the listing.
                let running = self.tasks.running().await?;
                let mut keys: HashSet<String> = self.objects.list(&records).await?.into_iter().collect();
                keys.extend(self.objects.list(&starts).await?);
                Ok(Seen { keys, running })
            })
            .await
    }

    /// When a worker has certainly passed its own time limit, in milliseconds since the epoch.
    fn overdue_at(&self, memo: &Memo, record: &TaskRecord) -> i64 {
        let limits = &memo.limits;
        let allowed = [self.config.start_ms, limits.timeout_ms, limits.grace_ms, OVERDUE_SLACK_MS];
        record.at.saturating_add(millis(allowed.into_iter().fold(0_u64, u64::saturating_add)))
    }

    /// Stops the task of a dispatch, and others if ECS started more than one.
    async fn stop_all(
        &self,
        dispatch: &DispatchId,
        record: &TaskRecord,
        reason: Reason,
    ) -> Result<(), BackendError> {
        self.tasks.stop(&record.arn, reason.why()).await?;
        for arn in self.tasks.list(&self.keys.started_by(dispatch)).await? {
            if arn != record.arn {
                self.tasks.stop(&arn, reason.why()).await?;
            }
        }
        Ok(())
    }

    /// Stops a task whose worker does not keep its own time limit.
    async fn stop_overdue(
        &self,
        dispatch: &DispatchId,
        memo: &Memo,
        record: &TaskRecord,
    ) -> Result<(), BackendError> {
        if now_ms() < self.overdue_at(memo, record) {
            return Ok(());
        }
        self.request_stop(dispatch, Reason::TimedOut).await?;
        self.stop_all(dispatch, record, Reason::TimedOut).await
    }

    async fn request_stop(&self, dispatch: &DispatchId, reason: Reason) -> Result<(), BackendError> {
        let stop = Stop { schema_version: VERSION, reason, at: now_ms() };
        self.create(dispatch, STOP, &stop).await.map(drop)
    }

    /// Writes the verdict down, unless a completion arrived at the last moment or another host judged first.
    async fn judge(&self, dispatch: &DispatchId, exit: WorkerExit) -> Result<WorkerExit, BackendError> {
        if let Some(exit) = self.completed(dispatch).await? {
            return Ok(exit);
        }
        let verdict = Verdict::from(exit.clone());
        if self.create(dispatch, VERDICT, &verdict).await? {
            self.tidy(dispatch, true).await?;
            return Ok(exit);
        }
        Ok(self.record::<Verdict>(dispatch, VERDICT).await?.unwrap_or(verdict).into())
    }

    /// The exit of a dispatch with a completion, its result unpacked.
    async fn completed(&self, dispatch: &DispatchId) -> Result<Option<WorkerExit>, BackendError> {
        let Some(completion) = self.left::<Completion>(dispatch, COMPLETION).await? else {
            return Ok(None);
        };
        self.tidy(dispatch, true).await?;
        let completion = match completion {
            Ok(completion) => completion,
            Err(problem) => return Ok(Some(lost(format!("its completion cannot be read: {problem}")))),
        };
        if completion.schema_version != START_VERSION || completion.dispatch != *dispatch {
            return Ok(Some(lost("its completion is of another version or another dispatch")));
        }
        if let Err(problem) = self.fetch(dispatch, &completion).await? {
            return Ok(Some(lost(format!("the archive of its result was refused: {problem}"))));
        }
        let exited = WorkerExit::Exited { code: completion.exit };
        Ok(Some(match completion.ended_by {
            EndedBy::Itself => exited,
            EndedBy::Timeout => WorkerExit::TimedOut,
            // Somebody stopped the task: we, if that is on record.
            EndedBy::Stop => match self.record::<Stop>(dispatch, STOP).await? {
                Some(stop) => stop.reason.exit(),
                None => exited,
            },
        }))
    }

    /// Unpacks the result of a dispatch into its result directory, once. `Ok(Err(_))` says why it is refused.
    async fn fetch(
        &self,
        dispatch: &DispatchId,
        completion: &Completion,
    ) -> Result<Result<(), String>, BackendError> {
        let known = held(&self.result_dirs).get(dispatch).cloned();
        let result_dir = match known {
            Some(dir) => dir,
            None => match self.record::<Memo>(dispatch, MEMO).await? {
                Some(memo) => memo.result_dir,
                None => return Ok(Err("its records are being removed".to_owned())),
            },
        };
        let mark = completion.digest.to_string();
        if fs::read_to_string(result_dir.join(FETCHED)).is_ok_and(|found| found == mark) {
            return Ok(Ok(()));
        }
        let limit = self.config.result_bytes;
        if completion.size > limit {
            return Ok(Err(format!("it has {} bytes, the limit is {limit}", completion.size)));
        }
        let failed =
            |error| io_failed(format!("take the result of {dispatch} to {}", result_dir.display()))(error);
        let parent = result_dir.parent().unwrap_or(Path::new("/")).to_owned();
        let scratch = blocking(move || {
            DirBuilder::new().recursive(true).mode(0o700).create(&parent)?;
            tempfile::Builder::new().prefix(".pangolin-fetch-").tempdir_in(&parent)
        });
        let scratch = scratch.await.map_err(failed)?;
        let archive = scratch.path().join(ARCHIVE);
        let key = self.keys.record(dispatch, ARCHIVE);
        if let Err(problem) =
            self.objects.download(&key, (completion.digest, completion.size), &archive).await?
        {
            return Ok(Err(problem));
        }
        let bounds = Bounds { bytes: limit, entries: self.config.result_entries };
        let to = result_dir.clone();
        let unpacked = blocking(move || {
            let tree = scratch.path().join("tree");
            DirBuilder::new().mode(0o700).create(&tree)?;
            if let Err(problem) = archive::unpack(File::open(&archive)?, &tree, bounds) {
                return Ok(Err(problem));
            }
            settle(&tree, &to, &mark)?;
            Ok(Ok(()))
        });
        unpacked.await.map_err(failed)
    }
}

/// Moves everything from `tree` to `to`, over what an interrupted earlier move left, and marks `to` as complete.
fn settle(tree: &Path, to: &Path, mark: &str) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(to)?;
    for entry in fs::read_dir(tree)? {
        let entry = entry?;
        let place = to.join(entry.file_name());
        match fs::symlink_metadata(&place) {
            Ok(meta) if meta.is_dir() => fs::remove_dir_all(&place)?,
            Ok(_) => fs::remove_file(&place)?,
            Err(_) => {}
        }
        fs::rename(entry.path(), place)?;
    }
    fs::write(to.join(FETCHED), mark)
}

fn exit_code(task: &Task, container: &str) -> Option<i32> {
    task.containers().iter().find(|one| one.name() == Some(container)).and_then(|one| one.exit_code())
}

/// How a stopped task without a completion ended.
fn ended(task: &Task, stop: Option<Reason>, container: &str) -> WorkerExit {
    if let Some(reason) = stop {
        return reason.exit();
    }
    let code = exit_code(task, container);
    let reason = task.stopped_reason().unwrap_or("no reason given");
    match (task.stop_code(), code) {
        (Some(TaskStopCode::EssentialContainerExited), Some(code)) if code != 0 => {
            WorkerExit::Exited { code }
        }
        // A worker that says it is done has left a completion. This one was not a worker.
        (Some(TaskStopCode::EssentialContainerExited), Some(_)) => {
            lost("its container ended with code 0 and left no completion; is the image a worker?")
        }
        (Some(code), _) => lost(format!("its task was stopped by ECS ({}): {reason}", code.as_str())),
        (None, _) => lost(format!("its task was stopped by ECS: {reason}")),
    }
}

#[async_trait]
impl WorkerBackend for FargateBackend {
    async fn probe(&self, level: Isolation, network: Network) -> Result<IsolationUsed, BackendError> {
        self.isolation(level, network)
    }

    async fn ensure(&self, spec: &WorkerSpec) -> Result<Started, BackendError> {
        self.isolation(spec.isolation, spec.network)?;
        let ready = self.check(spec)?;
        let _one = self.lock(&spec.dispatch).await;
        let memo = self.memo(spec, &ready.0).await?;
        held(&self.result_dirs).insert(spec.dispatch.clone(), spec.result_dir.clone());
        let started = self.start_once(spec, ready).await?;
        Ok(Started { isolation: memo.isolation, adopted: !started })
    }

    async fn was_started(&self, dispatch: &DispatchId) -> Result<bool, BackendError> {
        let _one = self.lock(dispatch).await;
        self.is_started(dispatch).await
    }

    async fn wait(&self, dispatch: &DispatchId) -> Result<WorkerExit, BackendError> {
        loop {
            if let Some(exit) = self.poll(dispatch).await? {
                return Ok(exit);
            }
            tokio::time::sleep(Duration::from_millis(self.config.look_ms)).await;
        }
    }

    async fn poll(&self, dispatch: &DispatchId) -> Result<Option<WorkerExit>, BackendError> {
        let _one = self.lock(dispatch).await;
        self.look(dispatch).await
    }

    async fn runs(&self, dispatch: &DispatchId) -> Result<bool, BackendError> {
        let seen = self.glance().await?;
        let has = |name: &str| seen.keys.contains(&self.keys.record(dispatch, name));
        let Some(made) = seen.running.get(&self.keys.started_by(dispatch)) else { return Ok(false) };
        let is_over = [COMPLETION, VERDICT, STOP].into_iter().any(has);
        if is_over || ![MEMO, TASK].into_iter().all(has) {
            return Ok(false);
        }
        // Without its memo nobody knows its limits: after the shortest time for which there are any, one look finds them.
        let shortest = self.config.start_ms.saturating_add(OVERDUE_SLACK_MS);
        let overdue = held(&self.overdue).get(dispatch).copied();
        if now_ms() >= overdue.unwrap_or_else(|| made.saturating_add(millis(shortest))) {
            return Ok(false);
        }
        if has(CLAIM) && seen.keys.contains(&self.keys.start(dispatch)) {
            self.tidy(dispatch, true).await?;
        }
        Ok(true)
    }

    /// `grace` is bounded by the stop timeout of the task, which was made of the grace in its limits: Fargate knows no
    /// other, and none above 120 seconds.
    async fn cancel(&self, dispatch: &DispatchId, _grace: Duration) -> Result<(), BackendError> {
        let _one = self.lock(dispatch).await;
        let ended = self.left::<Completion>(dispatch, COMPLETION).await?.is_some()
            || self.record::<Verdict>(dispatch, VERDICT).await?.is_some();
        if ended || self.record::<Memo>(dispatch, MEMO).await?.is_none() {
            return Ok(());
        }
        self.request_stop(dispatch, Reason::Cancelled).await?;
        match self.task(dispatch).await? {
            Some(record) => self.stop_all(dispatch, &record, Reason::Cancelled).await,
            None => Ok(()),
        }
    }

    async fn remove(&self, dispatch: &DispatchId) -> Result<(), BackendError> {
        let _one = self.lock(dispatch).await;
        self.objects.delete(&self.keys.start(dispatch)).await?;
        let mut keys = self.objects.list(&self.keys.of(dispatch)).await?;
        if !keys.is_empty() {
            // Nobody looks at it after this. What a worker says of its end is its own word, and it may go on.
            for arn in self.tasks.alive(&self.keys.started_by(dispatch)).await? {
                self.tasks.stop(&arn, "Pangolin: its dispatch has ended").await?;
            }
        }
        // The memo goes last: until then the dispatch is listed and can be removed again.
        let memo = self.keys.record(dispatch, MEMO);
        keys.sort_by_key(|key| *key == memo);
        for key in keys {
            self.objects.delete(&key).await?;
        }
        held(&self.result_dirs).remove(dispatch);
        held(&self.begun).remove(dispatch);
        held(&self.overdue).remove(dispatch);
        held(&self.locks).remove(dispatch);
        Ok(())
    }

    async fn list(&self) -> Result<Vec<DispatchId>, BackendError> {
        let all = self.keys.all();
        let keys = self.objects.list(&all).await?;
        let mut found: Vec<DispatchId> = keys
            .iter()
            .filter_map(|key| key.strip_prefix(all.as_str())?.split('/').next())
            .filter_map(|id| DispatchId::new(id).ok())
            .collect();
        found.sort();
        found.dedup();
        Ok(found)
    }
}
