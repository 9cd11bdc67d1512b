//! For authors of patterns.
//!
//! A pattern looks at a run and decides which items it gets next. Implement [`Pattern`] and export it with
//! [`export_pattern!`]. All access goes through the traits of [`host`]: in a component the host implements them, in
//! `cargo test` the [`mock`] host does, so the logic runs, is tested and is measured without WebAssembly.
//!
//! ```
//! use pangolin_pattern_sdk::{Decisions, Fault, ItemSpec, Pattern, Run, mock::{MockRun, Outcome}};
//!
//! /// Adds a `check-…` behind every item that is done.
//! struct Checked;
//!
//! impl Pattern for Checked {
//!     fn step(run: &Run<'_>, out: &Decisions<'_>) -> Result<(), Fault> {
//!         for brief in run.changed().filter(|it| it.succeeded() && !it.id.starts_with("check-")) {
//!             let id = format!("check-{}", brief.id);
//!             if run.find(&id).is_none() {
//!                 out.spawn(&ItemSpec::new(&id, "dispatch").depend_on(&brief.id))?;
//!                 out.explain(&id, &format!("{} is done", brief.id));
//!             }
//!         }
//!         Ok(())
//!     }
//! }
//! pangolin_pattern_sdk::export_pattern!(Checked);
//!
//! let mut run = MockRun::of_items([serde_json::json!({"id": "a"})]);
//! run.drive::<Checked>(|_| Outcome::done());
//! assert_eq!(run.ids(), ["a", "check-a"]);
//! ```
//!
//! A decision must follow from the run alone: the host executes steps again to verify them. So there is no clock but
//! [`Run::now_ms`], no randomness but [`Run::seed`], and no hash map with random order (use `BTreeMap`). A step sees
//! what changed; work that grows with the run and not with what changed makes large runs slow.

mod columns;
mod config;
mod decisions;
mod details;
#[cfg(target_family = "wasm")]
mod guest;
pub mod host;
mod ids;
pub mod json;
#[cfg(target_family = "wasm")]
mod memory;
#[cfg(not(target_family = "wasm"))]
pub mod mock;
mod run;
mod spec;

#[cfg(target_family = "wasm")]
pub use guest::raw;
#[cfg(target_family = "wasm")]
#[doc(hidden)]
pub use guest::{
    GuestDecide, GuestPlanner, WitDecisions, WitFault, WitRunView, bindings, run_plan, run_step,
};
#[cfg(target_family = "wasm")]
pub use memory::CallMemory;
pub use {
    columns::{IndexLists, TextLists, Texts},
    config::{Config, Finding, bad_config},
    decisions::Decisions,
    details::{Details, ItemDetail},
    host::{Fault, ItemBrief, Phase, Refusal, fault},
    ids::{ID_BYTES_MAX, copy_id, fix_id, generation, id_problem},
    run::{Item, Run},
    spec::{ItemSpec, SpawnTemplate},
};

/// A pattern.
pub trait Pattern {
    /// Asked once, when a run is submitted and before anything is stored. All items wait. Check the configuration here
    /// and report everything that is wrong with [`Decisions::finding`]; a finding or a fault rejects the plan.
    ///
    /// # Errors
    /// A fault rejects the plan.
    fn plan(run: &Run<'_>, out: &Decisions<'_>) -> Result<(), Fault> {
        let _ = (run, out);
        Ok(())
    }

    /// Decides what follows from what changed. Asked again after items ended, until it calls [`Decisions::close`].
    ///
    /// # Errors
    /// A fault ends the step without decisions; what it means for the run is the choice of the queue's configuration.
    fn step(run: &Run<'_>, out: &Decisions<'_>) -> Result<(), Fault>;
}

/// Makes a type that implements [`Pattern`] the component's export. Outside WebAssembly it exports nothing.
#[macro_export]
macro_rules! export_pattern {
    ($pattern:ty) => {
        #[cfg(target_family = "wasm")]
        const _: () = {
            struct Exported;
            impl $crate::GuestDecide for Exported {
                fn step(
                    view: &$crate::WitRunView,
                    out: &$crate::WitDecisions,
                ) -> Result<(), $crate::WitFault> {
                    $crate::run_step::<$pattern>(view, out)
                }
            }
            impl $crate::GuestPlanner for Exported {
                fn plan(
                    view: &$crate::WitRunView,
                    out: &$crate::WitDecisions,
                ) -> Result<(), $crate::WitFault> {
                    $crate::run_plan::<$pattern>(view, out)
                }
            }
    $crate::bindings::export!(Exported with_types_in $crate::bindings);
        };
        #[cfg(not(target_family = "wasm"))]
        const _: fn(&$crate::Run<'_>, &$crate::Decisions<'_>) -> Result<(), $crate::Fault> =
            <$pattern as $crate::Pattern>::step;
    };
}

/// Gives a component an allocator that is small and fast because a component lives for one call (`CallMemory`). The C
/// library below the standard library uses it too, so that its own allocator is not in the component. Outside WebAssembly
/// it does nothing.
///
/// ```
/// pangolin_pattern_sdk::call_memory!();
/// ```
#[macro_export]
macro_rules! call_memory {
    () => {
        #[cfg(target_family = "wasm")]
        #[allow(unsafe_code, reason = "an allocator under the names of the C library")]
        const _: () = {
            #[global_allocator]
            static MEMORY: $crate::CallMemory = $crate::CallMemory::new();

            #[unsafe(no_mangle)]
            extern "C" fn malloc(size: usize) -> *mut u8 {
                MEMORY.c_malloc(size)
            }

            #[unsafe(no_mangle)]
            extern "C" fn calloc(count: usize, size: usize) -> *mut u8 {
                MEMORY.c_calloc(count, size)
            }

            #[unsafe(no_mangle)]
            unsafe extern "C" fn realloc(block: *mut u8, size: usize) -> *mut u8 {
                // SAFETY: what C promises of it.
                unsafe { MEMORY.c_realloc(block, size) }
            }

            #[unsafe(no_mangle)]
            unsafe extern "C" fn free(block: *mut u8) {
                // SAFETY: what C promises of it.
                unsafe { MEMORY.c_free(block) }
            }

            #[unsafe(no_mangle)]
            unsafe extern "C" fn posix_memalign(out: *mut *mut u8, align: usize, size: usize) -> i32 {
                // SAFETY: what C promises of it.
                unsafe { MEMORY.c_posix_memalign(out, align, size) }
            }
        };
    };
}
