//! One call: a fresh store, its bounds, and what a failure means.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use pangolin_core::ids::Digest;
use wasmtime::{Engine, Store, Trap, UpdateDeadline, component::ResourceTableError};

use crate::{
    engine::{PluginHost, STACK_BYTES},
    failure::{Failure, GUEST_TEXT_BYTES, PluginError, Stop, clip},
    limits::Limits,
    state::{CallState, LogLine, stop},
};

/// Slack of the outer timeout over the guest's own deadline: it only fires when a host function blocks.
const OUTER_SLACK: Duration = Duration::from_secs(1);

/// What a call used, beside what it could have used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bill {
    /// Units of fuel; 0 in the effect profile, which does not count.
    pub fuel: u64,
    /// Units of fuel it could use; 0 in the effect profile.
    pub fuel_limit: u64,
    /// Largest linear memory in bytes.
    pub peak_memory_bytes: u64,
    /// Linear memory it could have in bytes.
    pub memory_limit_bytes: u64,
    /// Wall time in microseconds.
    pub wall_us: u64,
    /// Wall time it could take in microseconds.
    pub wall_limit_us: u64,
    /// Calls of host functions of the contract.
    pub host_calls: u64,
    /// Bytes that came with these calls.
    pub from_guest_bytes: u64,
    /// Bytes that could come.
    pub from_guest_limit_bytes: u64,
    /// Bytes that these calls answered.
    pub to_guest_bytes: u64,
    /// Bytes of log that were kept.
    pub log_bytes: u64,
    /// Bytes of log that could be kept.
    pub log_limit_bytes: u64,
    /// Log messages that were dropped.
    pub log_dropped: u64,
}

/// The bill and the log of one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallRecord {
    /// What it used.
    pub bill: Bill,
    /// What it said, within its caps.
    pub log: Vec<LogLine>,
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
    fuel: Option<Budget>,
    started: Instant,
}

#[derive(Debug, Clone, Copy)]
struct Budget {
    fuel: u64,
    items: u64,
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
        let fuel = items.map(|items| Budget { fuel: limits.fuel(items), items: items as u64 });
        if let Some(budget) = fuel {
            store.set_fuel(budget.fuel).map_err(|error| {
                PluginError::new(plugin, Failure::HostError { problem: format!("{error:#}") })
            })?;
        }
        let started = Instant::now();
        let wall = limits.wall;
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(move |context| {
            if context.data().block.as_ref().is_some_and(|block| block.world.stopped()) {
                let problem = "the work was stopped on request".into();
                return Err(stop(Failure::HostBusy { problem }));
            }
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
            Some(Err(error)) => {
                let failure = self.classify(&error);
                Err(self.fail(failure))
            }
            None => {
                let failure = self.deadline();
                Err(self.fail(failure))
            }
        }
    }

    pub(crate) fn bill(&self) -> Bill {
        let left = self.store.get_fuel().unwrap_or(0);
        let state = self.store.data();
        let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        Bill {
            fuel: self.fuel.map_or(0, |budget| budget.fuel.saturating_sub(left)),
            fuel_limit: self.fuel.map_or(0, |budget| budget.fuel),
            peak_memory_bytes: state.limiter.peak as u64,
            memory_limit_bytes: self.limits.memory_bytes as u64,
            wall_us: micros(self.started.elapsed()),
            wall_limit_us: micros(self.limits.wall),
            host_calls: state.crossed.calls,
            from_guest_bytes: state.crossed.from_guest,
            from_guest_limit_bytes: self.limits.hostcall_bytes_total,
            to_guest_bytes: state.crossed.to_guest,
            log_bytes: state.log().bytes,
            log_limit_bytes: self.limits.log_bytes as u64,
            log_dropped: state.log().dropped,
        }
    }

    /// Ends the account: bill and log.
    pub(crate) fn record(&mut self) -> CallRecord {
        CallRecord { bill: self.bill(), log: self.store.data_mut().take_log() }
    }

    pub(crate) fn fail(&mut self, failure: Failure) -> PluginError {
        let record = self.record();
        PluginError { plugin: self.plugin, failure, call: Some(Box::new(record)) }
    }

    fn deadline(&self) -> Failure {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Failure::Deadline { ran_ms: millis(self.started.elapsed()), limit_ms: millis(self.limits.wall) }
    }

    /// Gives an error of the engine its place in the vocabulary.
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
        #[cfg(feature = "pool")]
        if let Some(full) = error.downcast_ref::<wasmtime::PoolConcurrencyLimitError>() {
            return Failure::HostBusy { problem: full.to_string() };
        }
        let state = self.store.data();
        let refused = state.limiter.refused.clone();
        match error.downcast_ref::<Trap>() {
            Some(Trap::OutOfFuel) => {
                let budget = self.fuel.map_or(0, |budget| budget.fuel);
                let items = self.fuel.map_or(0, |budget| budget.items);
                let left = self.store.get_fuel().unwrap_or(0);
                Failure::CpuBudget { used: budget.saturating_sub(left), budget, items }
            }
            Some(Trap::Interrupt) => self.deadline(),
            Some(Trap::StackOverflow) => Failure::Stack { limit_bytes: STACK_BYTES as u64 },
            // A panic and an allocation that cannot fail end in the same trap. The panic hook and the limiter tell.
            Some(trap) => match (&state.panic, refused) {
                (Some(message), _) => Failure::GuestPanic { message: message.clone() },
                (None, Some(refused)) => refused,
                (None, None) => Failure::GuestAbort { trap: trap.to_string() },
            },
            None => self.by_text(error, refused),
        }
    }

    fn handles(&self) -> Failure {
        let cap = self.limits.handles as u64;
        Failure::OutputLimit { what: "the number of handles".into(), size: cap + 1, cap }
    }

    /// The engine has no type for these, only a text.
    fn by_text(&self, error: &wasmtime::Error, refused: Option<Failure>) -> Failure {
        let text = format!("{error:#}");
        if text.contains("too much data is being copied") {
            let cap = self.limits.hostcall_bytes as u64;
            return Failure::OutputLimit {
                what: "the data passed to one host function in bytes".into(),
                size: cap + 1,
                cap,
            };
        }
        if text.contains("handle limit exceeded") {
            return self.handles();
        }
        if let Some(counted) = self.store.data().limiter.counted(&text) {
            return counted;
        }
        match refused {
            // What a component wants from the start is refused while it is instantiated.
            Some(refused)
                if text.contains("exceeds memory limits") || text.contains("exceeds table limits") =>
            {
                refused
            }
            _ => Failure::GuestAbort { trap: clip(text, GUEST_TEXT_BYTES) },
        }
    }
}

async fn timeout<F: Future>(limit: Duration, future: F) -> Option<F::Output> {
    tokio::time::timeout(limit, future).await.ok()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use pangolin_core::ids::Digest;
    use wasmtime::component::{Component, Linker};

    use super::Call;
    use crate::{CacheKey, Failure, Limits, PluginHost, Profile, engine_config, state::CallState};

    /// No contract has a host function that waits, so the engine is asked directly.
    #[cfg(feature = "compile")]
    #[tokio::test]
    async fn a_host_function_that_never_answers_meets_the_outer_timeout() {
        let dir = tempfile::tempdir().unwrap();
        let host = PluginHost::new(dir.path(), CacheKey::from_bytes([1; 32])).unwrap();
        let engine = wasmtime::Engine::new(&engine_config(Profile::Effect)).unwrap();
        let text = r#"(component
            (import "wait" (func $wait))
            (core func $lowered (canon lower (func $wait)))
            (core module $m (import "" "wait" (func $wait)) (func (export "run") (call $wait)))
            (core instance $i (instantiate $m (with "" (instance (export "wait" (func $lowered))))))
            (func (export "run") (canon lift (core func $i "run"))))"#;
        let component = Component::new(&engine, wat::parse_str(text).unwrap()).unwrap();
        let mut linker: Linker<CallState> = Linker::new(&engine);
        linker
            .root()
            .func_wrap_async("wait", |_, (): ()| {
                Box::new(async {
                    std::future::pending::<()>().await;
                    Ok(())
                })
            })
            .unwrap();
        let limits = Limits { wall: Duration::from_millis(50), ..Limits::effect() };
        let mut call = Call::new(&engine, Digest::of(b"x"), &limits, 0, None).unwrap();
        let started = Instant::now();
        let error = call
            .run(&host, async |store| {
                let instance = linker.instantiate_async(&mut *store, &component).await?;
                let run = instance.get_typed_func::<(), ()>(&mut *store, "run")?;
                run.call_async(&mut *store, ()).await
            })
            .await
            .unwrap_err();
        match error.failure {
            Failure::Deadline { ran_ms, limit_ms: 50 } => assert!(ran_ms >= 50, "{ran_ms}"),
            other => panic!("{other:?}"),
        }
        assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
    }
}
