//! Public conformance suite for [`WorkerBackend`]: what an adapter must do before the orchestrator may trust it.
//!
//! An adapter implements [`BackendFixture`] in its tests and expands [`worker_backend_tests!`], which makes one
//! test per check. [`worker_backend`] runs them all in one call.
//!
//! The checks drive a scripted worker (`pangolin-conformance-worker`, a program in `host/worker-process`) through
//! nothing but the port and the three directories of the dispatch. Deliberately not here: what a real worker does
//! in those directories, crashes *inside* an adapter's own steps beyond a dropped future (each adapter kills its
//! own process in its own tests), and engine restarts.
//!
//! [`worker_backend_tests!`]: crate::worker_backend_tests

mod bounds;
mod end;
mod harness;
mod script;
mod start;

use std::sync::Arc;

use async_trait::async_trait;
pub use bounds::*;
pub use end::*;
pub use script::{ESCAPES, Escape, Step};
pub use start::*;

use crate::worker_backend::{BackendError, Network, WorkerBackend, WorkerSpec};
use pangolin_core::entry::Isolation;

/// What the suite needs from an adapter's tests. One fixture serves one check.
#[async_trait]
pub trait BackendFixture: Send + Sync {
    /// Opens the backend on the fixture's state, as a newly started host process would.
    async fn open(&self) -> Result<Arc<dyn WorkerBackend>, BackendError>;

    /// A fresh directory for the dispatches of this check.
    fn scratch(&self) -> &std::path::Path;

    /// A level that works here.
    fn isolation(&self) -> Isolation;

    /// A network policy that works here.
    fn network(&self) -> Network;

    /// Image, for container backends.
    fn image(&self) -> Option<String> {
        None
    }

    /// A level that this backend cannot provide here, or `None` when there is none (the check is then reported
    /// as skipped).
    fn unavailable(&self) -> Option<Isolation>;

    /// The worker must see its own directories and nothing else of the host.
    fn hides_host(&self) -> bool;

    /// Kills the worker with SIGKILL behind the backend's back. `pid` is what the worker takes for its own.
    async fn kill_worker(&self, spec: &WorkerSpec, pid: u32);
}

/// Runs every check on fixtures made by `make`, printing the name of each. Panics at the first violation.
pub async fn worker_backend<F: BackendFixture>(make: impl AsyncFn() -> F) {
    macro_rules! run {
        (@each; $($check:ident),* $(,)?) => {$(
            harness::say(concat!("conformance: ", stringify!($check)));
            $check(&make().await).await;
        )*};
    }
    crate::for_each_backend_check!([run]);
}

/// Makes one `#[tokio::test]` per check. `$fixture` names an `async fn() -> Option<impl BackendFixture>`; `None`
/// means that the backend cannot run here, and the function has said so on stderr.
#[macro_export]
macro_rules! worker_backend_tests {
    (@each $fixture:ident; $($check:ident),* $(,)?) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $check() {
            if let Some(fixture) = $fixture().await {
                $crate::backend_conformance::$check(&fixture).await;
            }
        }
    )*};
    ($fixture:ident) => {
        $crate::for_each_backend_check!([$crate::worker_backend_tests] $fixture);
    };
}

/// Hands the names of all checks to the macro in brackets.
#[doc(hidden)]
#[macro_export]
macro_rules! for_each_backend_check {
    ([$($then:tt)*] $($argument:tt)*) => {
        $($then)*! { @each $($argument)*;
            ensure_twice_starts_once,
            ensure_sixteen_at_once_starts_once,
            ensure_from_two_backends_starts_once,
            ensure_after_reopen_adopts,
            ensure_dropped_midway_then_repeated_starts_once,
            ensure_after_the_end_does_not_start_again,
            unavailable_isolation_starts_nothing,
            exit_codes_arrive_at_every_waiter,
            a_new_host_waits_for_the_old_worker,
            unknown_dispatch_is_lost,
            cancel_is_polite_first,
            cancel_kills_the_whole_tree_after_grace,
            cancel_by_another_host_works,
            cancel_is_idempotent_and_spares_the_ended,
            natural_end_leaves_no_process,
            timeout_kills_the_whole_tree,
            timeout_holds_across_a_host_crash,
            a_killed_worker_is_reported,
            remove_and_list,
            output_is_bounded_and_marked,
            small_output_is_kept_whole,
            worker_sees_its_directories_and_little_else,
        }
    };
}
