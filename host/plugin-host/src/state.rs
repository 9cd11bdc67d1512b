//! What a store holds for one call, and the log import.

use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView, random::WasiRandomCtx};

use crate::{
    bindings::adapter::pangolin::base::{log, types},
    failure::{Failure, GUEST_TEXT_BYTES, Stop, clip},
    limits::{Limiter, Limits},
};

/// Store data of one call.
pub(crate) struct CallState {
    pub(crate) table: ResourceTable,
    wasi: WasiCtx,
    pub(crate) limiter: Limiter,
    pub(crate) panic: Option<String>,
    plugin: String,
    log_left: usize,
    log_dropped: u64,
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
            log_left: limits.log_bytes,
            log_dropped: 0,
        }
    }

    pub(crate) fn random(&mut self) -> &mut WasiRandomCtx {
        self.wasi.random()
    }

    fn take_log(&mut self, text: &str) -> bool {
        match self.log_left.checked_sub(text.len()) {
            Some(left) => {
                self.log_left = left;
                true
            }
            None => {
                self.log_left = 0;
                self.log_dropped += 1;
                false
            }
        }
    }
}

impl Drop for CallState {
    fn drop(&mut self) {
        if self.log_dropped > 0 {
            tracing::warn!(plugin = %self.plugin, dropped = self.log_dropped, "plugin logged more than its cap");
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
        if self.take_log(&message) {
            let plugin = &self.plugin;
            match level {
                log::Level::Debug => tracing::debug!(%plugin, "{message}"),
                log::Level::Info => tracing::info!(%plugin, "{message}"),
                log::Level::Warn => tracing::warn!(%plugin, "{message}"),
                log::Level::Error => tracing::error!(%plugin, "{message}"),
            }
        }
        Ok(())
    }

    fn panicked(&mut self, message: String) -> wasmtime::Result<()> {
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
