//! For authors of runtime adapters.
//!
//! Implement [`Adapter`] and export it with [`export_adapter!`]. Not here: JSON (bring your own), IO of any kind: an
//! adapter describes and understands, the worker acts.
//!
//! ```ignore
//! struct Mine { /* parser state */ }
//! impl pangolin_adapter_sdk::Adapter for Mine { /* … */ }
//! pangolin_adapter_sdk::export_adapter!(Mine);
//! ```

#[doc(hidden)]
pub mod bindings {
    wit_bindgen::generate!({
        path: ["../../../wit/pangolin-base@1.0.0", "../../../wit/pangolin-runtime-adapter@1.0.0"],
        world: "pangolin:runtime-adapter/runtime-adapter",
        pub_export_macro: true,
        default_bindings_module: "pangolin_adapter_sdk::bindings",
        generate_all,
    });
}

mod lines;
mod problems;

pub use bindings::{
    exports::pangolin::runtime_adapter::adapter::{Channel, ExitInfo, Guest, GuestReader},
    pangolin::{
        base::{
            log,
            types::{Fault, Refusal},
        },
        runtime_adapter::session::{LaunchPlan, Report, TaskView},
    },
};
pub use lines::{Line, Lines, TextTail};
pub use problems::{Problems, pointer_part};

/// An adapter: two steps, one before the agent starts and one after (or while) it ran.
pub trait Adapter: Sized + 'static {
    /// Describes how to start the agent.
    ///
    /// # Errors
    /// A fault says what is missing; nothing is started.
    fn prepare(task: &TaskView, plan: &LaunchPlan) -> Result<(), Fault>;

    /// A parser at the beginning of a transcript.
    fn new(task: &TaskView) -> Self;

    /// Takes the next bytes; they may end anywhere.
    ///
    /// # Errors
    /// A fault gives up on the transcript.
    fn feed(&mut self, source: Channel, data: &[u8], report: &Report) -> Result<(), Fault>;

    /// The agent ended.
    ///
    /// # Errors
    /// A fault gives up on the transcript.
    fn finish(&mut self, exit: ExitInfo, report: &Report) -> Result<(), Fault>;
}

/// A fault with a code and a sentence; not retryable.
#[must_use]
pub fn fault(code: &str, message: impl Into<String>) -> Fault {
    Fault { code: code.to_owned(), message: message.into(), retryable: false, detail: None }
}

/// A refusal that the adapter cannot work around.
#[must_use]
pub fn refused(refusal: Refusal) -> Fault {
    let Refusal { capability, subject, reason } = refusal;
    fault("refused", format!("{capability} {subject:?}: {reason}"))
}

/// Whether a process was ended from outside: by its time limit, by a signal, or with the exit code of a program that
/// handles SIGHUP, SIGINT, SIGKILL or SIGTERM by exiting.
#[must_use]
pub fn was_killed(exit: &ExitInfo) -> bool {
    exit.timed_out || exit.signal.is_some() || matches!(exit.code, Some(124 | 129 | 130 | 137 | 143))
}

/// How a process ended, in words.
#[must_use]
pub fn describe_exit(exit: &ExitInfo) -> String {
    match (exit.timed_out, exit.signal, exit.code) {
        (true, _, _) => "stopped at its time limit".into(),
        (_, Some(signal), _) => format!("ended by signal {signal}"),
        (_, None, Some(code)) => format!("exit code {code}"),
        (_, None, None) => "no exit code".into(),
    }
}

/// Tells the host why the guest is about to trap. Called by [`export_adapter!`].
#[doc(hidden)]
pub fn install_panic_hook() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| std::panic::set_hook(Box::new(|info| log::panicked(&info.to_string()))));
}

/// Makes a type that implements [`Adapter`] the component's export.
#[macro_export]
macro_rules! export_adapter {
    ($adapter:ty) => {
        struct Exported;
        struct ExportedReader(::core::cell::RefCell<$adapter>);
        impl $crate::Guest for Exported {
            type Reader = ExportedReader;
            fn prepare(task: &$crate::TaskView, out: &$crate::LaunchPlan) -> Result<(), $crate::Fault> {
                $crate::install_panic_hook();
                <$adapter as $crate::Adapter>::prepare(task, out)
            }
        }
        impl $crate::GuestReader for ExportedReader {
            fn new(task: &$crate::TaskView) -> Self {
                $crate::install_panic_hook();
                Self(::core::cell::RefCell::new(<$adapter as $crate::Adapter>::new(task)))
            }
            fn feed(
                &self,
                source: $crate::Channel,
                data: Vec<u8>,
                to: &$crate::Report,
            ) -> Result<(), $crate::Fault> {
                $crate::Adapter::feed(&mut *self.0.borrow_mut(), source, &data, to)
            }
            fn finish(&self, exit: $crate::ExitInfo, to: &$crate::Report) -> Result<(), $crate::Fault> {
                $crate::Adapter::finish(&mut *self.0.borrow_mut(), exit, to)
            }
        }
        $crate::bindings::export!(Exported with_types_in $crate::bindings);
    };
}
