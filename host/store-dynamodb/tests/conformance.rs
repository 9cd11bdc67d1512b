//! The public suite on emulators.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

mod common;

use std::sync::Arc;

use async_trait::async_trait;
use common::Emulator;
use pangolin_aws::faults::FaultScript;
use pangolin_ports::{
    conformance::run_store::{RunStorePlace, suite},
    run_store::RunStore,
};
use pangolin_store_dynamodb::{DynamoRunStore, Retry};
use tokio::sync::OnceCell;

/// A table of its own for each place.
struct Place {
    emulator: Arc<Emulator>,
    table: OnceCell<String>,
}

#[async_trait]
impl RunStorePlace for Place {
    async fn open(&self) -> Arc<dyn RunStore> {
        let table = self.table.get_or_init(|| self.emulator.table()).await;
        let client = self.emulator.client(&FaultScript::new());
        Arc::new(DynamoRunStore::open(&client, table, Retry::default()).await.unwrap())
    }
}

async fn conforms(emulator: Option<Emulator>) {
    let Some(emulator) = emulator.map(Arc::new) else { return };
    let fresh = || -> Box<dyn RunStorePlace> {
        Box::new(Place { emulator: Arc::clone(&emulator), table: OnceCell::new() })
    };
    suite(&fresh).await.assert_passed();
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms_on_dynoxide() {
    conforms(Emulator::dynoxide("conforms_on_dynoxide").await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms_on_ministack() {
    conforms(Emulator::ministack("conforms_on_ministack").await).await;
}
