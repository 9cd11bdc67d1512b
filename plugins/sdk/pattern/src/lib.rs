//! For authors of patterns.
//!
//! Implement [`Pattern`] (and [`Planner`] with [`export_planner!`]) and export it. Not here: hash maps with random
//! order (use `BTreeMap`: a decision must not depend on a seed), clocks, IO.
//!
//! ```ignore
//! struct Mine;
//! impl pangolin_pattern_sdk::Pattern for Mine {
//!     fn step(view: &RunView, out: &Decisions) -> Result<(), Fault> { Ok(()) }
//! }
//! pangolin_pattern_sdk::export_pattern!(Mine);
//! ```

#[doc(hidden)]
pub mod bindings {
    wit_bindgen::generate!({
        path: ["../../../wit/pangolin-base@1.0.0", "../../../wit/pangolin-pattern@1.0.0"],
        world: "pangolin:pattern/pattern",
        pub_export_macro: true,
        default_bindings_module: "pangolin_pattern_sdk::bindings",
        generate_all,
    });
}

pub use bindings::{
    exports::pangolin::pattern::decide::Guest,
    pangolin::{
        base::{
            log,
            types::{Fault, Refusal},
        },
        pattern::graph::{Decisions, ItemBrief, ItemSpec, ItemView, Phase, RunView},
    },
};

/// A pattern.
pub trait Pattern {
    /// Decides what follows from what changed.
    ///
    /// # Errors
    /// A fault ends the step without decisions.
    fn step(view: &RunView, out: &Decisions) -> Result<(), Fault>;
}

/// A fault with a code and a sentence; not retryable.
#[must_use]
pub fn fault(code: &str, message: impl Into<String>) -> Fault {
    Fault { code: code.to_owned(), message: message.into(), retryable: false, detail: None }
}

/// Tells the host why the guest is about to trap. Called by [`export_pattern!`].
#[doc(hidden)]
pub fn install_panic_hook() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| std::panic::set_hook(Box::new(|info| log::panicked(&info.to_string()))));
}

/// All items in pages of `size`, in index order.
pub fn all_items(view: &RunView, size: u32) -> impl Iterator<Item = ItemBrief> {
    let mut offset = 0;
    std::iter::from_fn(move || {
        let page = view.items(offset, size.max(1));
        offset += u32::try_from(page.len()).unwrap_or(u32::MAX);
        (!page.is_empty()).then_some(page)
    })
    .flatten()
}

/// Makes a type that implements [`Pattern`] the component's export.
#[macro_export]
macro_rules! export_pattern {
    ($pattern:ty) => {
        struct Exported;
        impl $crate::Guest for Exported {
            fn step(view: &$crate::RunView, out: &$crate::Decisions) -> Result<(), $crate::Fault> {
                $crate::install_panic_hook();
                <$pattern as $crate::Pattern>::step(view, out)
            }
        }
        $crate::bindings::export!(Exported with_types_in $crate::bindings);
    };
}
