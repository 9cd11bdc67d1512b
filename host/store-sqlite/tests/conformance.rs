//! The public suite against real files.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

use std::{path::PathBuf, sync::Arc};

use async_trait::async_trait;
use pangolin_ports::{
    conformance::run_store::{RunStorePlace, suite},
    run_store::RunStore,
};
use pangolin_store_sqlite::{Options, SqliteRunStore, Synchronous};

struct Place {
    dir: tempfile::TempDir,
    options: Options,
}

impl Place {
    fn path(&self) -> PathBuf {
        self.dir.path().join("ledger.db")
    }
}

#[async_trait]
impl RunStorePlace for Place {
    async fn open(&self) -> Arc<dyn RunStore> {
        Arc::new(SqliteRunStore::open(self.path(), self.options.clone()).unwrap())
    }
}

fn fresh(options: &Options) -> Box<dyn RunStorePlace> {
    Box::new(Place { dir: tempfile::tempdir().unwrap(), options: options.clone() })
}

#[tokio::test(flavor = "multi_thread")]
async fn full_synchronous_conforms() {
    suite(&|| fresh(&Options::default())).await.assert_passed();
}

#[tokio::test(flavor = "multi_thread")]
async fn normal_synchronous_without_groups_conforms() {
    let options = Options { synchronous: Synchronous::Normal, group_max: 1, ..Options::default() };
    suite(&|| fresh(&options)).await.assert_passed();
}
