//! For authors of pipeline blocks.
//!
//! A block reads what the pipeline made so far and answers with a verdict and evidence. Implement [`Block`] and export
//! it with [`export_block!`]. All access goes through the trait [`Stage`]: in a component the host implements it, in
//! `cargo test` the [`mock`] host does, so a block's logic is tested without WebAssembly.
//!
//! ```
//! use pangolin_block_sdk::{Block, Fault, Input, Output, mock::Mock};
//!
//! /// Red when more than `max` paths changed.
//! struct FewFiles;
//!
//! impl Block for FewFiles {
//!     fn run(input: &Input<'_>, output: &Output<'_>) -> Result<(), Fault> {
//!         let mut params = input.params();
//!         let max = params.integer("max", 0..=10_000, 20);
//!         params.finish()?;
//!         let count = input.changes()?.len() as u64;
//!         output.evidence("count", &count)?;
//!         output.verdict(count <= max, &format!("{count} of at most {max} paths changed"));
//!         Ok(())
//!     }
//! }
//! pangolin_block_sdk::export_block!(FewFiles);
//!
//! let outcome = Mock::new().params(r#"{"max": 1}"#).added("a.txt", "one\n").run::<FewFiles>();
//! assert!(outcome.passed());
//! let outcome = Mock::new().params(r#"{"max": "1"}"#).run::<FewFiles>();
//! assert_eq!(outcome.fault().expect("not a number").code, "bad-params");
//! ```
//!
//! Deliberately not here: hash maps with random order (use `BTreeMap`: evidence must not depend on a seed), clocks, file
//! systems, starting programs (`block-full` of the contract; a component of that world brings its own bindings).

mod changes;
mod globs;
#[cfg(target_family = "wasm")]
mod guest;
mod input;
mod limits;
mod lines;
#[cfg(not(target_family = "wasm"))]
pub mod mock;
mod output;
mod params;
mod stage;

#[cfg(target_family = "wasm")]
#[doc(hidden)]
pub use guest::{Guest, WitFault, WitInput, WitOutput, bindings, run_guest};
pub use {
    changes::{Change, ChangeKind, FileState},
    globs::Globs,
    input::{FileReader, Files, Input},
    limits::{Findings, clip},
    lines::{LineChange, LineReader, LineSet, MAX_SEGMENT, Segment, changed_lines, hash_line, hash_lines},
    output::{Artifact, Output},
    params::{Level, Params, Problem},
    stage::{ArtifactWriter, Entry, Fault, LogLevel, Refusal, Stage, fault, refused, unreadable},
};

/// A block.
pub trait Block {
    /// Reads, judges, and says what it found. Called once per component instance.
    ///
    /// # Errors
    /// A fault means that the block could not do its job; that is neither green nor red. What the block judges and
    /// finds bad is a red verdict, not a fault.
    fn run(input: &Input<'_>, output: &Output<'_>) -> Result<(), Fault>;
}

/// Makes a type that implements [`Block`] the component's export. Outside WebAssembly it exports nothing.
#[macro_export]
macro_rules! export_block {
    ($block:ty) => {
        #[cfg(target_family = "wasm")]
        const _: () = {
            struct Exported;
            impl $crate::Guest for Exported {
                fn run(source: &$crate::WitInput, out: &$crate::WitOutput) -> Result<(), $crate::WitFault> {
                    $crate::run_guest::<$block>(source, out)
                }
            }
    $crate::bindings::export!(Exported with_types_in $crate::bindings);
        };
        #[cfg(not(target_family = "wasm"))]
        const _: fn(&$crate::Input<'_>, &$crate::Output<'_>) -> Result<(), $crate::Fault> =
            <$block as $crate::Block>::run;
    };
}
