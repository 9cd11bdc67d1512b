//! The public suite against a real directory.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::PermissionsExt,
    sync::Arc,
};

use async_trait::async_trait;
use pangolin_blob_fs::FsBlobStore;
use pangolin_core::ids::Digest;
use pangolin_ports::{
    blob_store::BlobStore,
    conformance::blob_store::{BlobPlace, suite},
};

/// How the suite's `corrupt` damages a blob.
#[derive(Clone, Copy)]
enum Damage {
    Flip,
    Grow,
}

struct Place {
    dir: tempfile::TempDir,
    damage: Damage,
}

#[async_trait]
impl BlobPlace for Place {
    async fn open(&self) -> Arc<dyn BlobStore> {
        Arc::new(FsBlobStore::open(self.dir.path().join("blobs")).unwrap())
    }

    async fn corrupt(&self, digest: &Digest) {
        let path = self.dir.path().join("blobs/sha256").join(&digest.hex()[..2]).join(digest.hex());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let mut bytes = fs::read(&path).unwrap();
        match (self.damage, bytes.last_mut()) {
            (Damage::Flip, Some(byte)) => *byte ^= 0x80,
            _ => bytes.push(0),
        }
        OpenOptions::new().write(true).truncate(true).open(&path).unwrap().write_all(&bytes).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms() {
    for damage in [Damage::Flip, Damage::Grow] {
        suite(&|| Box::new(Place { dir: tempfile::tempdir().unwrap(), damage })).await.assert_passed();
    }
}
