//! The component's side: the contract's imports as a [`Stage`].

use crate::{
    Block, Fault, Input, Output,
    stage::{ArtifactWriter, Entry, LogLevel, Refusal, Stage},
};

/// Generated from `wit/`.
#[allow(missing_docs, reason = "generated")]
pub mod bindings {
    wit_bindgen::generate!({
        path: ["../../../wit/pangolin-base@1.0.0", "../../../wit/pangolin-block@1.0.0"],
        world: "pangolin:block/block",
        pub_export_macro: true,
        default_bindings_module: "pangolin_block_sdk::bindings",
        generate_all,
    });
}

use bindings::pangolin::{
    base::{log, types},
    block::stage,
};
pub use bindings::{
    exports::pangolin::block::run::Guest,
    pangolin::{
        base::types::Fault as WitFault,
        block::stage::{Input as WitInput, Output as WitOutput},
    },
};

struct Imports<'a> {
    input: &'a stage::Input,
    output: &'a stage::Output,
}

fn refusal(from: types::Refusal) -> Refusal {
    Refusal { capability: from.capability, subject: from.subject, reason: from.reason }
}

impl Stage for Imports<'_> {
    fn params_json(&self) -> String {
        self.input.params_json()
    }

    fn position(&self) -> u32 {
        self.input.position()
    }

    fn earlier_json(&self, block: &str) -> Option<String> {
        self.input.earlier_json(block)
    }

    fn list_files(&self, prefix: &str, offset: u32, limit: u32) -> Result<Vec<Entry>, Refusal> {
        let page = self.input.list_files(prefix, offset, limit).map_err(refusal)?;
        Ok(page
            .into_iter()
            .map(|entry| Entry { path: entry.path, size: entry.size, digest: entry.digest })
            .collect())
    }

    fn read(&self, path: &str, offset: u64, length: u32) -> Result<Vec<u8>, Refusal> {
        self.input.read(path, types::BytesRange { offset, length }).map_err(refusal)
    }

    fn attr(&self, key: &str) -> Option<String> {
        self.input.attr(key)
    }

    fn artifact(&self, path: &str) -> Result<Box<dyn ArtifactWriter>, Refusal> {
        let writer = self.output.artifact(path).map_err(refusal)?;
        Ok(Box::new(Writer(writer)))
    }

    fn verdict(&self, passed: bool, summary: &str) {
        self.output.verdict(passed, summary);
    }

    fn evidence(&self, key: &str, json: &str) {
        self.output.evidence(key, json);
    }

    fn log(&self, level: LogLevel, message: &str) {
        let level = match level {
            LogLevel::Debug => log::Level::Debug,
            LogLevel::Info => log::Level::Info,
            LogLevel::Warn => log::Level::Warn,
            LogLevel::Error => log::Level::Error,
        };
        log::emit(level, message);
    }
}

struct Writer(stage::ArtifactWriter);

impl ArtifactWriter for Writer {
    fn write(&mut self, data: &[u8]) -> Result<(), Refusal> {
        self.0.write(data).map_err(refusal)
    }

    fn commit(self: Box<Self>) -> Result<String, Refusal> {
        self.0.commit().map_err(refusal)
    }
}

/// Runs a block on the component's imports. Called by [`crate::export_block!`].
///
/// # Errors
/// The block's fault.
pub fn run_guest<B: Block>(input: &WitInput, output: &WitOutput) -> Result<(), WitFault> {
    // Tells the host why the guest is about to trap.
    std::panic::set_hook(Box::new(|info| log::panicked(&info.to_string())));
    let imports = Imports { input, output };
    B::run(&Input::new(&imports), &Output::new(&imports)).map_err(|fault| {
        let Fault { code, message, retryable, detail } = fault;
        WitFault { code, message, retryable, detail }
    })
}
