//! The public conformance suite on Docker containers.

mod common;

use std::{path::Path, sync::Arc};

use async_trait::async_trait;
use bollard::{Docker, query_parameters::KillContainerOptionsBuilder};
use pangolin_core::entry::Isolation;
use pangolin_ports::{
    backend_conformance::BackendFixture,
    worker_backend::{BackendError, Network, WorkerBackend, WorkerSpec},
    worker_backend_tests,
};
use tempfile::TempDir;

struct Fixture {
    dir: TempDir,
    docker: Docker,
}

#[async_trait]
impl BackendFixture for Fixture {
    async fn open(&self) -> Result<Arc<dyn WorkerBackend>, BackendError> {
        Ok(Arc::new(common::open().await))
    }

    fn scratch(&self) -> &Path {
        self.dir.path()
    }

    fn isolation(&self) -> Isolation {
        Isolation::Container
    }

    fn network(&self) -> Network {
        Network::None
    }

    fn image(&self) -> Option<String> {
        Some(common::IMAGE.to_owned())
    }

    fn unavailable(&self) -> Option<Isolation> {
        Some(Isolation::Sandbox)
    }

    fn hides_host(&self) -> bool {
        true
    }

    async fn kill_worker(&self, spec: &WorkerSpec, _pid: u32) {
        let options = KillContainerOptionsBuilder::default().signal("SIGKILL").build();
        let name = format!("pangolin-{}", spec.dispatch);
        self.docker.kill_container(&name, Some(options)).await.expect("kill the container");
    }
}

async fn fixture() -> Option<Fixture> {
    let docker = common::engine().await?;
    Some(Fixture { dir: tempfile::tempdir().expect("temporary directory"), docker })
}

worker_backend_tests!(fixture);
