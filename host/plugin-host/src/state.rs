//! What a store holds for one call, and the log import.

use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView, random::WasiRandomCtx};

use crate::{
    bindings::adapter::pangolin::base::{log, types},
    crossing::Crossed,
    failure::{Failure, GUEST_TEXT_BYTES, Stop, clip},
    limits::{Limiter, Limits, Probe},
};

/// Store data of one call.
pub(crate) struct CallState {
    pub(crate) table: ResourceTable,
    wasi: WasiCtx,
    pub(crate) limiter: Limiter,
    pub(crate) panic: Option<String>,
    plugin: String,
    log: LogBook,
    pub(crate) crossed: Crossed,
    pub(crate) probe: Probe,
    /// The block that runs in this store, if one does.
    pub(crate) block: Option<Box<crate::block_state::BlockState>>,
}

impl CallState {
    /// State for one call of the plugin called `plugin` in log lines.
    pub(crate) fn new(plugin: String, limits: &Limits, seed: u64) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(limits.handles);
        Self {
            table,
            // No environment, no arguments, no directories, stdin closed, output discarded.
            wasi: WasiCtx::builder().insecure_random_seed(u128::from(seed)).build(),
            limiter: Limiter::new(limits),
            panic: None,
            plugin,
            log: LogBook::new(limits),
            crossed: Crossed::new(limits),
            probe: limits.probe,
            block: None,
        }
    }

    pub(crate) fn random(&mut self) -> &mut WasiRandomCtx {
        self.wasi.random()
    }

    /// What was logged, for the caller: taken once.
    pub(crate) fn take_log(&mut self) -> Vec<LogLine> {
        std::mem::take(&mut self.log.lines)
    }

    pub(crate) const fn log(&self) -> &LogBook {
        &self.log
    }
}

impl Drop for CallState {
    fn drop(&mut self) {
        if self.log.dropped > 0 {
            tracing::warn!(plugin = %self.plugin, dropped = self.log.dropped, "plugin logged more than its cap");
        }
    }
}

/// How important a log line is, in the plugin's opinion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// For its author.
    Debug,
    /// For the curious.
    Info,
    /// For the operator.
    Warn,
    /// For the operator, soon.
    Error,
}

/// One message of a plugin. Guest text: may hold anything, control characters included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Importance.
    pub level: LogLevel,
    /// The words.
    pub text: String,
}

/// What was logged in a call, within its caps.
#[derive(Debug)]
pub(crate) struct LogBook {
    lines: Vec<LogLine>,
    bytes_left: usize,
    lines_left: usize,
    pub(crate) bytes: u64,
    pub(crate) dropped: u64,
}

impl LogBook {
    fn new(limits: &Limits) -> Self {
        Self {
            lines: Vec::new(),
            bytes_left: limits.log_bytes,
            lines_left: limits.log_lines,
            bytes: 0,
            dropped: 0,
        }
    }

    /// Keeps a message whole or not at all; after the first that does not fit nothing is kept.
    fn keep(&mut self, level: LogLevel, text: String) -> bool {
        let lines = text.lines().count().max(1);
        match (self.bytes_left.checked_sub(text.len()), self.lines_left.checked_sub(lines)) {
            (Some(bytes), Some(left)) => {
                (self.bytes_left, self.lines_left) = (bytes, left);
                self.bytes += text.len() as u64;
                self.lines.push(LogLine { level, text });
                true
            }
            _ => {
                (self.bytes_left, self.lines_left) = (0, 0);
                self.dropped += 1;
                false
            }
        }
    }
}

impl WasiView for CallState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl types::Host for CallState {}

impl log::Host for CallState {
    fn emit(&mut self, level: log::Level, message: String) -> wasmtime::Result<()> {
        self.called(message.len())?;
        let kept = match level {
            log::Level::Debug => LogLevel::Debug,
            log::Level::Info => LogLevel::Info,
            log::Level::Warn => LogLevel::Warn,
            log::Level::Error => LogLevel::Error,
        };
        if self.log.keep(kept, message.clone()) {
            let plugin = &self.plugin;
            match kept {
                LogLevel::Debug => tracing::debug!(%plugin, "{message}"),
                LogLevel::Info => tracing::info!(%plugin, "{message}"),
                LogLevel::Warn => tracing::warn!(%plugin, "{message}"),
                LogLevel::Error => tracing::error!(%plugin, "{message}"),
            }
        }
        Ok(())
    }

    fn panicked(&mut self, message: String) -> wasmtime::Result<()> {
        self.called(message.len())?;
        self.panic.get_or_insert_with(|| clip(message, GUEST_TEXT_BYTES));
        Ok(())
    }
}

/// Counts what a guest hands over and stops it at the cap.
#[derive(Debug, Clone)]
pub(crate) struct Meter {
    what: &'static str,
    bytes: usize,
    bytes_cap: usize,
    pieces: usize,
    pieces_cap: usize,
}

impl Meter {
    pub(crate) fn new(what: &'static str, limits: &Limits) -> Self {
        Self { what, bytes: 0, bytes_cap: limits.output_bytes, pieces: 0, pieces_cap: limits.output_pieces }
    }

    /// Whether one more piece of `bytes` fits; counted when it does.
    pub(crate) fn fits(&mut self, bytes: usize) -> bool {
        let (total, pieces) = (self.bytes.saturating_add(bytes), self.pieces + 1);
        let fits = total <= self.bytes_cap && pieces <= self.pieces_cap;
        if fits {
            (self.bytes, self.pieces) = (total, pieces);
        }
        fits
    }

    /// Like [`Self::fits`], ending the guest when it does not.
    pub(crate) fn take(&mut self, bytes: usize) -> wasmtime::Result<()> {
        if self.fits(bytes) {
            return Ok(());
        }
        let pieces_over = self.pieces >= self.pieces_cap;
        let (what, size, cap) = if pieces_over {
            (format!("the number of pieces in the {}", self.what), self.pieces + 1, self.pieces_cap)
        } else {
            (format!("the {} in bytes", self.what), self.bytes.saturating_add(bytes), self.bytes_cap)
        };
        Err(stop(Failure::OutputLimit { what, size: size as u64, cap: cap as u64 }))
    }
}

/// An error that ends the guest with `failure`.
pub(crate) fn stop(failure: Failure) -> wasmtime::Error {
    wasmtime::Error::new(Stop(failure))
}
