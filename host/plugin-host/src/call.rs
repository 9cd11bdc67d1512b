//! One call: a fresh store, its bounds, and what a failure means.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use pangolin_core::ids::Digest;
use wasmtime::{Engine, Store, Trap, UpdateDeadline, component::ResourceTableError};

use crate::{
    engine::{PluginHost, STACK_BYTES},
    failure::{Failure, PluginError, Stop},
    limits::Limits,
    state::CallState,
};

/// Slack of the outer timeout over the guest's own deadline: it only fires when a host function blocks.
const OUTER_SLACK: Duration = Duration::from_secs(1);

/// What a call cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bill {
    /// Units of fuel; 0 in the effect profile, which does not count.
    pub fuel: u64,
    /// Largest linear memory in bytes.
    pub peak_memory_bytes: u64,
    /// Wall time in microseconds.
    pub wall_us: u64,
}

/// Raised by the epoch callback.
#[derive(Debug, thiserror::Error)]
#[error("deadline reached")]
struct DeadlineReached;

/// A store for one call. Dropped afterwards in every case: a trap makes an instance unusable.
pub(crate) struct Call {
    pub(crate) store: Store<CallState>,
    plugin: Digest,
    limits: Limits,
    fuel: Option<u64>,
    started: Instant,
}

impl Call {
    /// `items`: size of the input, for the fuel budget; `None` in the effect profile.
    pub(crate) fn new(
        engine: &Engine,
        plugin: Digest,
        limits: &Limits,
        seed: u64,
        items: Option<usize>,
    ) -> Result<Self, PluginError> {
        let mut store = Store::new(engine, CallState::new(plugin.to_string(), limits, seed));
        store.limiter(|state| &mut state.limiter);
        store.set_hostcall_fuel(limits.hostcall_bytes);
        store.set_max_component_handles(limits.handles);
        let fuel = items.map(|items| limits.fuel(items));
        if let Some(fuel) = fuel {
            store.set_fuel(fuel).map_err(|error| PluginError {
                plugin,
                failure: Failure::HostError { problem: format!("{error:#}") },
            })?;
        }
        let started = Instant::now();
        let wall = limits.wall;
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(move |_| {
            if started.elapsed() >= wall {
                return Err(wasmtime::Error::new(DeadlineReached));
            }
            Ok(UpdateDeadline::Yield(1))
        });
        Ok(Self { store, plugin, limits: limits.clone(), fuel, started })
    }

    /// Runs `work` (instantiate and call) under the wall-clock bound.
    pub(crate) async fn run<T>(
        &mut self,
        host: &PluginHost,
        work: impl AsyncFnOnce(&mut Store<CallState>) -> wasmtime::Result<T>,
    ) -> Result<T, PluginError> {
        let _ticking = host.shared.ticker.guard();
        let limit = self.limits.wall + OUTER_SLACK;
        match timeout(limit, work(&mut self.store)).await {
            Some(Ok(value)) => Ok(value),
            Some(Err(error)) => Err(self.error(&error)),
            None => Err(self.fail(self.deadline())),
        }
    }

    pub(crate) fn bill(&self) -> Bill {
        let left = self.store.get_fuel().unwrap_or(0);
        Bill {
            fuel: self.fuel.map_or(0, |budget| budget.saturating_sub(left)),
            peak_memory_bytes: self.store.data().limiter.peak as u64,
            wall_us: u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX),
        }
    }

    pub(crate) fn fail(&self, failure: Failure) -> PluginError {
        PluginError { plugin: self.plugin, failure }
    }

    fn deadline(&self) -> Failure {
        Failure::Deadline { limit_ms: u64::try_from(self.limits.wall.as_millis()).unwrap_or(u64::MAX) }
    }

    /// Gives an error of the engine its place in the vocabulary.
    fn error(&self, error: &wasmtime::Error) -> PluginError {
        self.fail(self.classify(error))
    }

    fn classify(&self, error: &wasmtime::Error) -> Failure {
        if let Some(Stop(failure)) = error.downcast_ref::<Stop>() {
            return failure.clone();
        }
        if error.is::<DeadlineReached>() {
            return self.deadline();
        }
        if let Some(exit) = error.downcast_ref::<wasmtime_wasi::I32Exit>() {
            return Failure::GuestExit { status: exit.0 };
        }
        if let Some(ResourceTableError::Full) = error.downcast_ref() {
            return self.handles();
        }
        let state = self.store.data();
        let memory = state.limiter.refused.map(|wanted| Failure::MemoryLimit {
            wanted_bytes: wanted as u64,
            limit_bytes: self.limits.memory_bytes as u64,
        });
        match error.downcast_ref::<Trap>() {
            Some(Trap::OutOfFuel) => Failure::CpuBudget { budget: self.fuel.unwrap_or(0) },
            Some(Trap::Interrupt) => self.deadline(),
            Some(Trap::StackOverflow) => Failure::Stack { limit_bytes: STACK_BYTES as u64 },
            // A panic and an allocation that cannot fail end in the same trap. The panic hook and the limiter tell.
            Some(trap) => match (&state.panic, memory) {
                (Some(message), _) => Failure::GuestPanic { message: message.clone() },
                (None, Some(memory)) => memory,
                (None, None) => Failure::GuestAbort { trap: trap.to_string() },
            },
            None => memory.unwrap_or_else(|| self.by_text(error)),
        }
    }

    fn handles(&self) -> Failure {
        let cap = self.limits.handles as u64;
        Failure::OutputLimit { what: "the number of handles".into(), size: cap + 1, cap }
    }

    /// The engine has no type for these two, only a text.
    fn by_text(&self, error: &wasmtime::Error) -> Failure {
        let text = format!("{error:#}");
        if text.contains("too much data is being copied") {
            let cap = self.limits.hostcall_bytes as u64;
            return Failure::OutputLimit {
                what: "the data passed to the host in bytes".into(),
                size: cap + 1,
                cap,
            };
        }
        if text.contains("handle limit exceeded") {
            return self.handles();
        }
        Failure::GuestAbort { trap: text }
    }
}

async fn timeout<F: Future>(limit: Duration, future: F) -> Option<F::Output> {
    tokio::time::timeout(limit, future).await.ok()
}
