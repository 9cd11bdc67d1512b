//! The public conformance suite on host processes.

mod common;

use std::{path::Path, sync::Arc};

use async_trait::async_trait;
use pangolin_core::entry::Isolation;
use pangolin_ports::{
    backend_conformance::BackendFixture,
    worker_backend::{BackendError, Network, WorkerBackend, WorkerSpec},
    worker_backend_tests,
};
use tempfile::TempDir;

struct Fixture {
    dir: TempDir,
}

#[async_trait]
impl BackendFixture for Fixture {
    async fn open(&self) -> Result<Arc<dyn WorkerBackend>, BackendError> {
        Ok(Arc::new(common::open(&self.dir.path().join("state"))?))
    }

    fn scratch(&self) -> &Path {
        self.dir.path()
    }

    fn isolation(&self) -> Isolation {
        Isolation::None
    }

    fn network(&self) -> Network {
        Network::Host
    }

    fn unavailable(&self) -> Option<Isolation> {
        // The scripted worker answers no probe, so this is refused for a reason that the backend found out.
        Some(Isolation::Sandbox)
    }

    fn hides_host(&self) -> bool {
        false
    }

    async fn kill_worker(&self, _spec: &WorkerSpec, pid: u32) {
        common::kill(pid);
    }
}

async fn fixture() -> Option<Fixture> {
    Some(Fixture { dir: tempfile::tempdir().expect("temporary directory") })
}

worker_backend_tests!(fixture);
