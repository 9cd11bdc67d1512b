//! The service: functions, their environments, and how they are called.

use std::{
    collections::{BTreeMap, VecDeque},
    fs, io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::Notify;

use crate::{
    api::{self, Event},
    environment::{self, Environment, Started, Violations},
    function::{Function, Kill},
    invocation::{Delivery, Invocation, LambdaError, Outcome},
};

/// Largest payload of a call that waits for its answer.
const PAYLOAD_LIMIT: usize = 6 * 1_024 * 1_024;

/// Largest payload of an event.
const EVENT_LIMIT: usize = 1_024 * 1_024;

/// A running service. Clones are the same service; it ends with the last one, and with it every process.
#[derive(Debug, Clone)]
pub struct LambdaFake(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    violations: Violations,
    /// An environment became free.
    freed: Notify,
    // After the environments, which remove their directories.
    dir: TempDir,
}

#[derive(Debug, Default)]
struct State {
    functions: BTreeMap<String, Deployed>,
    requests: u64,
    environments: u64,
    scheduled: Vec<(String, Bytes)>,
}

#[derive(Debug)]
struct Deployed {
    function: Function,
    idle: Vec<Environment>,
    busy: usize,
    kills: VecDeque<Kill>,
    invocations: Vec<Invocation>,
    dead_letters: Vec<Value>,
}

/// The right to use an environment. Gives it back when dropped.
struct Slot {
    service: Arc<Inner>,
    function: Function,
    number: u64,
    /// A warm one; afterwards the one to keep.
    environment: Option<Environment>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        {
            let mut state = self.service.lock();
            if let Some(deployed) = state.functions.get_mut(&self.function.name) {
                deployed.busy = deployed.busy.saturating_sub(1);
                // Not when the function was deployed anew meanwhile.
                if deployed.function.program == self.function.program
                    && deployed.function.env == self.function.env
                {
                    deployed.idle.extend(self.environment.take());
                }
            }
        }
        self.service.freed.notify_waiters();
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LambdaFake {
    /// Starts a service without functions.
    ///
    /// # Errors
    /// When there is no temporary directory.
    pub fn start() -> io::Result<Self> {
        let dir = tempfile::Builder::new().prefix("lambda-fake-").tempdir()?;
        Ok(Self(Arc::new(Inner {
            state: Mutex::default(),
            violations: Violations::default(),
            freed: Notify::new(),
            dir,
        })))
    }

    /// Deploys a function, or replaces it: then its idle environments end, and busy ones are not used again.
    ///
    /// # Errors
    /// [`LambdaError::Function`] with everything that Lambda would refuse.
    pub fn function(&self, function: Function) -> Result<(), LambdaError> {
        let findings = function.findings();
        if !findings.is_empty() {
            return Err(LambdaError::Function { name: function.name, findings });
        }
        let mut state = self.0.lock();
        match state.functions.get_mut(&function.name) {
            Some(deployed) => {
                deployed.idle.clear();
                deployed.function = function;
            }
            None => {
                let deployed = Deployed {
                    function: function.clone(),
                    idle: Vec::new(),
                    busy: 0,
                    kills: VecDeque::new(),
                    invocations: Vec::new(),
                    dead_letters: Vec::new(),
                };
                state.functions.insert(function.name, deployed);
            }
        }
        Ok(())
    }

    /// Calls a function and waits for its answer, as `Invoke` with `RequestResponse`. Nothing is repeated.
    ///
    /// # Errors
    /// What the service refuses; what the function does is in [`Invocation::outcome`].
    pub async fn invoke(&self, name: &str, payload: impl Into<Bytes>) -> Result<Invocation, LambdaError> {
        let payload = payload.into();
        check_payload(&payload, PAYLOAD_LIMIT)?;
        let slot = self.slot(name)?;
        self.run(slot, payload, self.next_request()).await
    }

    /// Hands a function an event, as S3, EventBridge and the Scheduler do: it waits for a free environment, is repeated
    /// after a failure, and becomes a dead letter in the end.
    ///
    /// # Errors
    /// What the service refuses.
    pub async fn invoke_event(&self, name: &str, payload: impl Into<Bytes>) -> Result<Delivery, LambdaError> {
        let payload = payload.into();
        check_payload(&payload, EVENT_LIMIT)?;
        let request_id = self.next_request();
        let mut attempts = Vec::new();
        loop {
            let slot = self.free_slot(name).await?;
            let function = slot.function.clone();
            let invocation = self.run(slot, payload.clone(), request_id.clone()).await?;
            let success = invocation.is_success();
            attempts.push(invocation);
            if success {
                break;
            }
            if attempts.len() > usize::try_from(function.retries).unwrap_or_default() {
                self.bury(&function, &payload, &attempts).await;
                break;
            }
        }
        Ok(Delivery { attempts })
    }

    /// Registers what the clock hands to a function.
    pub fn schedule(&self, name: &str, payload: impl Into<Bytes>) {
        self.0.lock().scheduled.push((name.to_owned(), payload.into()));
    }

    /// A minute has passed: everything scheduled is handed over, one after the other.
    ///
    /// # Errors
    /// What the service refuses.
    pub async fn tick_clock(&self) -> Result<Vec<Delivery>, LambdaError> {
        let scheduled = self.0.lock().scheduled.clone();
        let mut deliveries = Vec::with_capacity(scheduled.len());
        for (name, payload) in scheduled {
            deliveries.push(self.invoke_event(&name, payload).await?);
        }
        Ok(deliveries)
    }

    /// The next invocation of the function that has no other death yet dies like this. Several calls are for several
    /// invocations, in order.
    ///
    /// # Errors
    /// [`LambdaError::NotFound`].
    pub fn kill_next(&self, name: &str, kill: Kill) -> Result<(), LambdaError> {
        self.with(name, |deployed| deployed.kills.push_back(kill))
    }

    /// Every invocation of a function so far, in the order of their ends.
    ///
    /// # Errors
    /// [`LambdaError::NotFound`].
    pub fn invocations(&self, name: &str) -> Result<Vec<Invocation>, LambdaError> {
        self.with(name, |deployed| deployed.invocations.clone())
    }

    /// Events that failed every time, as Lambda writes them into the queue of dead letters.
    ///
    /// # Errors
    /// [`LambdaError::NotFound`].
    pub fn dead_letters(&self, name: &str) -> Result<Vec<Value>, LambdaError> {
        self.with(name, |deployed| deployed.dead_letters.clone())
    }

    /// What runtimes did against the protocol. Empty for a good one.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        self.0.violations.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What a function printed, in the order of its environments.
    #[must_use]
    pub fn logs(&self, name: &str) -> String {
        let environments = self.0.lock().environments;
        let paths = (1..=environments).map(|number| environment::log_path(self.dir(), name, number));
        paths
            .filter_map(|path| fs::read(path).ok())
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .collect()
    }

    fn dir(&self) -> &Path {
        self.0.dir.path()
    }

    fn with<T>(&self, name: &str, work: impl FnOnce(&mut Deployed) -> T) -> Result<T, LambdaError> {
        let mut state = self.0.lock();
        state.functions.get_mut(name).map(work).ok_or_else(|| LambdaError::NotFound(name.to_owned()))
    }

    fn next_request(&self) -> String {
        let mut state = self.0.lock();
        state.requests += 1;
        format!("00000000-0000-4000-8000-{:012x}", state.requests)
    }

    /// An environment, warm or to be made; an error when there are enough.
    fn slot(&self, name: &str) -> Result<Slot, LambdaError> {
        let mut state = self.0.lock();
        state.environments += 1;
        let number = state.environments;
        let deployed = state.functions.get_mut(name).ok_or_else(|| LambdaError::NotFound(name.to_owned()))?;
        if deployed.busy >= deployed.function.concurrency {
            let concurrency = deployed.function.concurrency;
            return Err(LambdaError::Throttled { name: name.to_owned(), concurrency });
        }
        let mut environment = None;
        while let Some(mut warm) = deployed.idle.pop() {
            if warm.is_usable() {
                environment = Some(warm);
                break;
            }
        }
        deployed.busy += 1;
        Ok(Slot { service: Arc::clone(&self.0), function: deployed.function.clone(), number, environment })
    }

    async fn free_slot(&self, name: &str) -> Result<Slot, LambdaError> {
        loop {
            let freed = self.0.freed.notified();
            tokio::pin!(freed);
            // Before the look, or what becomes free in between would be missed.
            freed.as_mut().enable();
            match self.slot(name) {
                Err(LambdaError::Throttled { .. }) => freed.await,
                other => return other,
            }
        }
    }

    /// In a task of its own: a caller that goes away does not end what it called.
    async fn run(&self, slot: Slot, payload: Bytes, request_id: String) -> Result<Invocation, LambdaError> {
        let name = slot.function.name.clone();
        let service = self.clone();
        let run = tokio::spawn(async move { service.run_here(slot, payload, request_id).await });
        run.await.unwrap_or_else(|source| Err(LambdaError::Io { name, source: source.into() }))
    }

    async fn run_here(
        &self,
        mut slot: Slot,
        payload: Bytes,
        request_id: String,
    ) -> Result<Invocation, LambdaError> {
        let function = slot.function.clone();
        let (mut environment, init) = match slot.environment.take() {
            Some(warm) => (warm, None),
            None => {
                let violations = Arc::clone(&self.0.violations);
                match Environment::start(&function, slot.number, self.dir(), violations).await {
                    Ok(Started::Ready(new, init)) => (*new, Some(init)),
                    Ok(Started::Failed(why)) => {
                        let invocation = Invocation {
                            request_id,
                            outcome: Outcome::NotStarted(why),
                            duration: std::time::Duration::ZERO,
                            cpu: std::time::Duration::ZERO,
                            peak_rss: 0,
                            init: None,
                            environment: slot.number,
                        };
                        return self.keep(&function.name, invocation);
                    }
                    Err(source) => return Err(LambdaError::Io { name: function.name, source }),
                }
            }
        };
        let kill = self.with(&function.name, |deployed| deployed.kills.pop_front())?;
        let event = Event {
            deadline_ms: api::deadline_ms(function.timeout),
            arn: arn(&function.name),
            trace: trace(&request_id),
            request_id: request_id.clone(),
            payload,
        };
        let run = environment.invoke(event, function.timeout, kill).await;
        let invocation = Invocation {
            request_id,
            outcome: run.outcome,
            duration: run.duration,
            cpu: run.cpu,
            peak_rss: run.peak_rss,
            init,
            environment: environment.number,
        };
        if environment.is_usable() {
            slot.environment = Some(environment);
        }
        self.keep(&function.name, invocation)
    }

    fn keep(&self, name: &str, invocation: Invocation) -> Result<Invocation, LambdaError> {
        self.with(name, |deployed| deployed.invocations.push(invocation.clone()))?;
        Ok(invocation)
    }

    /// Keeps an event that failed every time, in the form of a destination on failure.
    async fn bury(&self, function: &Function, payload: &[u8], attempts: &[Invocation]) {
        let Some(last) = attempts.last() else { return };
        let letter = json!({
            "version": "1.0",
            "requestContext": {
                "requestId": last.request_id,
                "functionArn": format!("{}:$LATEST", arn(&function.name)),
                "condition": "RetriesExhausted",
                "approximateInvokeCount": attempts.len(),
            },
            "requestPayload": serde_json::from_slice::<Value>(payload).unwrap_or_default(),
            "responseContext": { "statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled" },
            "responsePayload": response_payload(last),
        });
        if let Some(queue) = &function.on_failure
            && let Err(problem) = queue.send(&letter.to_string()).await
        {
            let violation = format!("{}: the dead letter was not taken: {problem}", function.name);
            self.0.violations.lock().unwrap_or_else(PoisonError::into_inner).push(violation);
        }
        // A function that was removed keeps none.
        let _ = self.with(&function.name, |deployed| deployed.dead_letters.push(letter));
    }
}

fn response_payload(invocation: &Invocation) -> Value {
    match &invocation.outcome {
        Outcome::Failed { error_type, message } => {
            json!({ "errorType": error_type, "errorMessage": message })
        }
        Outcome::TimedOut => json!({ "errorMessage": format!("{} Task timed out", invocation.request_id) }),
        other => json!({ "errorType": "Runtime.ExitError", "errorMessage": format!("{other:?}") }),
    }
}

fn check_payload(payload: &[u8], limit: usize) -> Result<(), LambdaError> {
    if payload.len() > limit {
        return Err(LambdaError::TooLarge { bytes: payload.len(), limit });
    }
    let parsed: Result<serde::de::IgnoredAny, _> = serde_json::from_slice(payload);
    parsed.map(|_| ()).map_err(|error| LambdaError::NotJson(error.to_string()))
}

fn arn(name: &str) -> String {
    format!("arn:aws:lambda:us-east-1:000000000000:function:{name}")
}

/// In the form of an X-Ray header; the ids come from the request.
fn trace(request_id: &str) -> String {
    let hex: String = request_id.chars().filter(char::is_ascii_hexdigit).collect();
    format!("Root=1-{}-{};Parent={};Sampled=0", &hex[..8], &hex[8..], &hex[16..])
}
