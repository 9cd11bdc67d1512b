//! The proxy: its fronts, rules and counts.

use std::{
    collections::BTreeMap,
    fmt, io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{net::TcpListener, task::JoinHandle};

use crate::{
    call::{Call, Count, Kind, Outcome},
    fault::Fault,
    server,
};

type Rule = Box<dyn FnMut(&Call) -> Option<Fault> + Send>;

/// A proxy with any number of fronts, which share one rule and one set of counts. Ends when dropped.
#[derive(Debug, Default)]
pub struct Proxy {
    traffic: Arc<Traffic>,
    fronts: Mutex<Vec<JoinHandle<()>>>,
}

impl Proxy {
    /// Without fronts and rules.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Listens on a free port of loopback and forwards to `upstream`, a URL as `http://127.0.0.1:9000`; answers its own URL.
    /// Calls that come in here are of `caller`.
    ///
    /// # Errors
    /// When no port can be had, or `upstream` is no such URL.
    pub async fn front(&self, caller: &str, upstream: &str) -> io::Result<String> {
        let authority = upstream.strip_prefix("http://").map(|rest| rest.trim_end_matches('/'));
        let authority = authority
            .and_then(|authority| authority.parse().ok())
            .ok_or_else(|| io::Error::other(format!("{upstream:?} is no URL as http://127.0.0.1:9000")))?;
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let front = server::Front::new(caller, authority, Arc::clone(&self.traffic));
        lock(&self.fronts).push(tokio::spawn(server::serve(listener, front)));
        Ok(url)
    }

    /// Sets the rule: it sees every call from now on and says what happens to it. It replaces the one before.
    pub fn rule(&self, rule: impl FnMut(&Call) -> Option<Fault> + Send + 'static) {
        self.traffic.lock().rule = Some(Box::new(rule));
    }

    /// No more faults; calls are still counted.
    pub fn no_rule(&self) {
        self.traffic.lock().rule = None;
    }

    /// From now on refusals tell the SDK to repeat at once (`x-amz-retry-after`). Not so for connections that end.
    pub fn hurry(&self) {
        self.traffic.lock().hurry = true;
    }

    /// Sums by kind, since the start.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<Kind, Count> {
        self.traffic.lock().counts.clone()
    }

    /// Every call with what became of it, in the order of their ends.
    #[must_use]
    pub fn calls(&self) -> Vec<(Call, Outcome)> {
        self.traffic.lock().ended.clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        lock(&self.fronts).drain(..).for_each(|front| front.abort());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What all fronts share.
#[derive(Default)]
pub(crate) struct Traffic(Mutex<State>);

#[derive(Default)]
struct State {
    rule: Option<Rule>,
    hurry: bool,
    counts: BTreeMap<Kind, Count>,
    requests: u64,
    ended: Vec<(Call, Outcome)>,
}

impl Traffic {
    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.0)
    }

    /// Notes a request, numbers it and decides about it.
    pub(crate) fn begin(&self, mut call: Call) -> (Call, Option<Fault>) {
        let mut state = self.lock();
        state.requests += 1;
        let count = state.counts.entry(call.kind.clone()).or_default();
        count.calls += 1;
        call.nth = count.calls;
        if call.logical.is_empty() {
            call.logical = state.requests.to_string();
        }
        let fault = state.rule.as_mut().and_then(|rule| rule(&call));
        (call, fault)
    }

    pub(crate) fn hurries(&self) -> bool {
        self.lock().hurry
    }

    pub(crate) fn end(&self, call: Call, outcome: Outcome) {
        let mut state = self.lock();
        let count = state.counts.entry(call.kind.clone()).or_default();
        match outcome {
            Outcome::Answered(_) => count.forwarded += 1,
            Outcome::FailedBefore => count.failed_before += 1,
            Outcome::FailedAfter => {
                count.forwarded += 1;
                count.failed_after += 1;
            }
            Outcome::Unreachable => {}
        }
        state.ended.push((call, outcome));
    }

    pub(crate) fn bytes(&self, kind: &Kind, sent: u64, received: u64) {
        let mut state = self.lock();
        let count = state.counts.entry(kind.clone()).or_default();
        count.sent += sent;
        count.received += received;
    }
}

impl fmt::Debug for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Traffic").finish_non_exhaustive()
    }
}
