//! An HTTP layer that fails, doubles and holds calls by a script. Deterministic: what happens depends on the order of the
//! calls and nothing else. Emulators never throttle, never conflict and never lose an answer; AWS does.
//!
//! ```no_run
//! use pangolin_aws::{Aws, faults::{Answer, Fault, FaultScript, On}};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let script = FaultScript::new();
//! script.at(On::operation("s3", "PutObject"), 1, Fault::LoseAnswer);
//! script.at(On::service("dynamodb"), 3, Fault::Answer(Answer::dynamodb_throttled()));
//! let aws = Aws::for_tests("http://127.0.0.1:4566", 3, script.around(Aws::http()))?;
//! # Ok(()) }
//! ```

mod answer;
mod gate;
mod layer;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_smithy_runtime_api::client::http::SharedHttpClient;

pub use answer::Answer;
pub use gate::Gate;

/// Which calls a rule is about. A call is one HTTP request: a retry of the SDK is another call.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct On {
    service: Option<String>,
    operation: Option<String>,
}

impl On {
    /// Every call.
    #[must_use]
    pub fn any() -> Self {
        Self::default()
    }

    /// Calls of a service, by its signing name: `s3`, `dynamodb`, `ecs`, `sqs`, `secretsmanager`, …
    #[must_use]
    pub fn service(name: &str) -> Self {
        Self { service: Some(name.to_owned()), operation: None }
    }

    /// Calls of one operation of a service, by the name in its API: `PutObject`, `TransactWriteItems`, …
    #[must_use]
    pub fn operation(service: &str, operation: &str) -> Self {
        Self { service: Some(service.to_owned()), operation: Some(operation.to_owned()) }
    }

    fn is(&self, call: &Call) -> bool {
        self.service.as_ref().is_none_or(|service| *service == call.service)
            && self.operation.as_ref().is_none_or(|operation| *operation == call.operation)
    }
}

/// What happens to a call.
#[derive(Debug, Clone)]
pub enum Fault {
    /// The connection breaks before anything is sent.
    RefuseSend,
    /// The call takes effect, then the connection breaks: the caller does not know.
    LoseAnswer,
    /// Nothing is sent; the caller gets this answer.
    Answer(Answer),
    /// The call takes effect, but the caller gets this answer, as from a gateway that gave up.
    AnswerAfterEffect(Answer),
    /// The request is sent twice, one after the other; the caller gets the second answer.
    SendTwice,
    /// The request waits for the gate and is sent then.
    HoldBefore(Gate),
    /// The call takes effect at once; its answer waits for the gate.
    HoldAfter(Gate),
}

/// A call that was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Signing name of the service.
    pub service: String,
    /// Name of the operation.
    pub operation: String,
    /// Path and query of the request. Not for signed URLs in logs: it may hold a signature.
    pub target: String,
}

/// When calls go wrong, and what was called. Clones share their rules and calls.
#[derive(Debug, Clone, Default)]
pub struct FaultScript(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    rules: Vec<Rule>,
    calls: Vec<Call>,
}

#[derive(Debug)]
struct Rule {
    on: On,
    /// The matching calls it fires for, counted from 1 since the rule was added.
    first: u64,
    last: u64,
    seen: u64,
    fault: Fault,
}

impl FaultScript {
    /// A script without rules: it only counts.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The `nth` matching call from now on, counted from 1, gets the fault.
    pub fn at(&self, on: On, nth: u64, fault: Fault) {
        self.between(on, nth, nth, fault);
    }

    /// Every matching call from now on gets the fault.
    pub fn always(&self, on: On, fault: Fault) {
        self.between(on, 1, u64::MAX, fault);
    }

    /// The matching calls from number `first` to `last`, counted from 1 and from now on, get the fault. When several rules
    /// fire for one call, the one that was added first decides; all count the call.
    pub fn between(&self, on: On, first: u64, last: u64, fault: Fault) {
        self.lock().rules.push(Rule { on, first, last, seen: 0, fault });
    }

    /// No more faults; calls are still counted.
    pub fn clear(&self) {
        self.lock().rules.clear();
    }

    /// The calls so far, in the order in which they arrived here.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.lock().calls.clone()
    }

    /// How many calls there were that match.
    #[must_use]
    pub fn count(&self, on: &On) -> usize {
        self.lock().calls.iter().filter(|call| on.is(call)).count()
    }

    /// An HTTP client that follows the script and sends with `inner`.
    #[must_use]
    pub fn around(&self, inner: SharedHttpClient) -> SharedHttpClient {
        layer::client(self.clone(), inner)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a call and decides about it.
    fn next(&self, call: Call) -> Option<Fault> {
        let mut state = self.lock();
        let mut fault = None;
        for rule in &mut state.rules {
            if rule.on.is(&call) {
                rule.seen += 1;
                if (rule.first..=rule.last).contains(&rule.seen) && fault.is_none() {
                    fault = Some(rule.fault.clone());
                }
            }
        }
        state.calls.push(call);
        fault
    }
}
