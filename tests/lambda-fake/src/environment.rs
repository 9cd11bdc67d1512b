//! One execution environment: a process, its runtime API, and one invocation at a time.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use hyper::StatusCode;
use nix::unistd::Pid;
use tokio::{
    net::TcpListener,
    process::{Child, Command},
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    api::{self, Call, Event, Reply, Said},
    function::{Function, Kill},
    invocation::{Init, Outcome},
    measure, process,
};

/// How long an environment may take until its first poll.
const INIT_LIMIT: Duration = Duration::from_secs(10);

/// Largest answer: 6 MiB and 100 bytes, as the service's own message about it says.
pub(crate) const ANSWER_LIMIT: usize = 6_291_556;

/// What runtimes did that they must not do.
pub(crate) type Violations = Arc<Mutex<Vec<String>>>;

/// A running environment. Its process ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Environment {
    pub(crate) number: u64,
    name: String,
    child: Child,
    pid: Pid,
    calls: mpsc::UnboundedReceiver<Call>,
    server: JoinHandle<()>,
    /// The poll that waits for an event.
    parked: Option<oneshot::Sender<Reply>>,
    violations: Violations,
    dir: PathBuf,
}

/// How a start ended.
pub(crate) enum Started {
    Ready(Box<Environment>, Init),
    Failed(String),
}

/// An invocation, measured.
pub(crate) struct Run {
    pub(crate) outcome: Outcome,
    pub(crate) duration: Duration,
    pub(crate) cpu: Duration,
    pub(crate) peak_rss: u64,
}

impl Environment {
    /// Starts the program and waits for its first poll. Errors are this program's own; a function that does not come up is
    /// [`Started::Failed`].
    pub(crate) async fn start(
        function: &Function,
        number: u64,
        root: &Path,
        violations: Violations,
    ) -> io::Result<Started> {
        let dir = root.join(format!("environment-{number}"));
        fs::create_dir_all(&dir)?;
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?.to_string();
        let (sender, calls) = mpsc::unbounded_channel();
        let log = fs::File::create(log_path(root, &function.name, number))?;
        let mut command = Command::new(&function.program);
        command
            .env_clear()
            .envs(&function.env)
            .envs(variables(function, number))
            .env("AWS_LAMBDA_RUNTIME_API", &address)
            .env("TMPDIR", &dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .kill_on_drop(true);
        if let Some(task_root) = function.program.parent() {
            command.env("LAMBDA_TASK_ROOT", task_root).current_dir(task_root);
        }
        let begin = Instant::now();
        let child = command.spawn()?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::other("the process has no id"))?;
        let server = tokio::spawn(api::serve(listener, sender));
        let name = function.name.clone();
        let mut environment = Self { number, name, child, pid, calls, server, parked: None, violations, dir };
        let failed = environment.first_poll().await;
        let duration = begin.elapsed();
        if let Err(why) = failed {
            environment.kill().await;
            return Ok(Started::Failed(why));
        }
        process::freeze(pid);
        let init = Init {
            duration,
            cpu: measure::cpu(pid).unwrap_or_default(),
            peak_rss: measure::peak_rss(pid).unwrap_or_default(),
        };
        Ok(Started::Ready(Box::new(environment), init))
    }

    async fn first_poll(&mut self) -> Result<(), String> {
        let limit = sleep(INIT_LIMIT);
        tokio::pin!(limit);
        loop {
            tokio::select! {
                call = self.calls.recv() => match call {
                    Some(Call::Next(reply)) => {
                        self.parked = Some(reply);
                        return Ok(());
                    }
                    Some(Call::InitError { said, reply }) => {
                        let _ = reply.send(Reply::Accepted);
                        return Err(match said {
                            Said::Error { error_type, message } => format!("{error_type}: {message}"),
                            Said::Answer(_) => "it reported an error".to_owned(),
                        });
                    }
                    Some(Call::Done { id, reply, .. }) => self.unknown_request(&id, reply),
                    Some(Call::Unknown { what, reply }) => self.unknown_path(&what, reply),
                    None => return Err("its runtime API ended".to_owned()),
                },
                status = self.child.wait() => return Err(ended(status)),
                () = &mut limit => return Err(format!("no poll within {} s", INIT_LIMIT.as_secs())),
            }
        }
    }

    /// Whether it can take another event.
    pub(crate) fn is_usable(&mut self) -> bool {
        self.parked.as_ref().is_some_and(|reply| !reply.is_closed())
            && matches!(self.child.try_wait(), Ok(None))
    }

    /// Hands over an event and waits until the runtime polls again, or until the end of the process.
    pub(crate) async fn invoke(&mut self, event: Event, limit: Duration, kill: Option<Kill>) -> Run {
        let id = event.request_id.clone();
        let begin = Instant::now();
        if kill == Some(Kill::AtInvocation) {
            self.kill().await;
            return Run {
                outcome: Outcome::Killed,
                duration: begin.elapsed(),
                cpu: Duration::ZERO,
                peak_rss: 0,
            };
        }
        measure::reset_peak(self.pid);
        let cpu_before = measure::cpu(self.pid).unwrap_or_default();
        process::thaw(self.pid);
        let taken =
            self.parked.take().is_some_and(|parked| parked.send(Reply::Event(Box::new(event))).is_ok());
        let (outcome, answered) = if taken {
            self.until_next(&id, begin, limit, kill).await
        } else {
            (Outcome::Exited("it gave up its poll".to_owned()), None)
        };
        let duration = answered.unwrap_or_else(|| begin.elapsed());
        process::freeze(self.pid);
        let cpu = measure::cpu(self.pid).unwrap_or_default().saturating_sub(cpu_before);
        let peak_rss = measure::peak_rss(self.pid).unwrap_or_default();
        if self.parked.is_none() {
            self.kill().await;
        }
        Run { outcome, duration, cpu, peak_rss }
    }

    /// The outcome, and when the answer came.
    async fn until_next(
        &mut self,
        id: &str,
        begin: Instant,
        limit: Duration,
        kill: Option<Kill>,
    ) -> (Outcome, Option<Duration>) {
        let kill_after = match kill {
            Some(Kill::AfterMillis(ms)) => Some(Duration::from_millis(ms)),
            _ => None,
        };
        let mut done: Option<(Outcome, Duration)> = None;
        loop {
            tokio::select! {
                // What the runtime said before it ended, or before its time was over, counts.
                biased;
                call = self.calls.recv() => match call {
                    Some(Call::Next(reply)) => match done.take() {
                        Some((outcome, answered)) => {
                            self.parked = Some(reply);
                            return (outcome, Some(answered));
                        }
                        None => self.refuse(reply, StatusCode::FORBIDDEN, "InvalidStateTransition",
                            format!("polled again without an answer to {id}")),
                    },
                    Some(Call::Done { id: found, reply, .. }) if found != id => self.unknown_request(&found, reply),
                    Some(Call::Done { reply, .. }) if done.is_some() => {
                        self.refuse(reply, StatusCode::BAD_REQUEST, "InvalidStateTransition",
                            format!("answered {id} twice"));
                    }
                    Some(Call::Done { .. }) if kill == Some(Kill::AtResponse) => {
                        return (Outcome::Killed, Some(begin.elapsed()));
                    }
                    Some(Call::Done { said, reply, .. }) => {
                        done = Some((self.settle(said, reply), begin.elapsed()));
                    }
                    Some(Call::InitError { reply, .. }) => self.refuse(reply, StatusCode::FORBIDDEN,
                        "InvalidStateTransition", format!("reported an error of its start during {id}")),
                    Some(Call::Unknown { what, reply }) => self.unknown_path(&what, reply),
                    None => return (Outcome::Exited("its runtime API ended".to_owned()), None),
                },
                status = self.child.wait() => return (Outcome::Exited(ended(status)), None),
                () = sleep_until(begin + limit) => return (Outcome::TimedOut, None),
                () = sleep_until(begin + kill_after.unwrap_or_default()), if kill_after.is_some() => {
                    return (Outcome::Killed, None);
                }
            }
        }
    }

    fn settle(&self, said: Said, reply: oneshot::Sender<Reply>) -> Outcome {
        match said {
            Said::Answer(bytes) if bytes.len() > ANSWER_LIMIT => {
                let message = format!("the answer has {} bytes, the limit is {ANSWER_LIMIT}", bytes.len());
                self.refuse(reply, StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", message.clone());
                Outcome::Failed { error_type: "Function.ResponseSizeTooLarge".to_owned(), message }
            }
            Said::Answer(bytes) => {
                let _ = reply.send(Reply::Accepted);
                Outcome::Answered(Bytes::copy_from_slice(&bytes))
            }
            Said::Error { error_type, message } => {
                let _ = reply.send(Reply::Accepted);
                Outcome::Failed { error_type, message }
            }
        }
    }

    fn unknown_request(&self, id: &str, reply: oneshot::Sender<Reply>) {
        let message = format!("answered {id:?}, which is no request of this environment");
        self.refuse(reply, StatusCode::BAD_REQUEST, "InvalidRequestID", message);
    }

    fn unknown_path(&self, what: &str, reply: oneshot::Sender<Reply>) {
        self.refuse(reply, StatusCode::NOT_FOUND, "NotFound", format!("called {what}"));
    }

    fn refuse(
        &self,
        reply: oneshot::Sender<Reply>,
        status: StatusCode,
        error_type: &'static str,
        message: String,
    ) {
        let violation = format!("{} (environment {}): {message}", self.name, self.number);
        self.violations.lock().unwrap_or_else(PoisonError::into_inner).push(violation);
        // The runtime may have ended meanwhile.
        let _ = reply.send(Reply::Refused { status, error_type, message });
    }

    async fn kill(&mut self) {
        if self.child.id().is_some() {
            process::kill_all(self.pid);
            // SIGKILL cannot be refused.
            let _ = self.child.wait().await;
        }
    }
}

impl Drop for Environment {
    fn drop(&mut self) {
        self.server.abort();
        // Without an id it was waited for, and its number may be somebody else's by now.
        if self.child.id().is_some() {
            process::kill_all(self.pid);
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// What Lambda sets for every function.
fn variables(function: &Function, number: u64) -> Vec<(&'static str, String)> {
    let fixed = [
        ("_HANDLER", "bootstrap"),
        ("AWS_ACCESS_KEY_ID", "ASIATESTTESTTESTTEST"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
        ("AWS_EXECUTION_ENV", "AWS_Lambda_provided.al2023"),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
        ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_SESSION_TOKEN", "test"),
        ("LAMBDA_RUNTIME_DIR", "/var/runtime"),
        ("LANG", "en_US.UTF-8"),
        ("PATH", "/usr/local/bin:/usr/bin/:/bin:/opt/bin"),
        ("TZ", ":UTC"),
    ];
    let mut all: Vec<_> = fixed.map(|(name, value)| (name, value.to_owned())).to_vec();
    all.extend([
        ("AWS_LAMBDA_FUNCTION_NAME", function.name.clone()),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", function.memory_mb.to_string()),
        ("AWS_LAMBDA_LOG_GROUP_NAME", format!("/aws/lambda/{}", function.name)),
        ("AWS_LAMBDA_LOG_STREAM_NAME", format!("[$LATEST]{number:032x}")),
    ]);
    all
}

/// Where an environment's output is kept.
pub(crate) fn log_path(root: &Path, function: &str, number: u64) -> PathBuf {
    root.join(format!("{function}.{number:06}.log"))
}

fn ended(status: io::Result<std::process::ExitStatus>) -> String {
    match status {
        Ok(status) => format!("Runtime.ExitError: {status}"),
        Err(error) => format!("Runtime.ExitError: {error}"),
    }
}
