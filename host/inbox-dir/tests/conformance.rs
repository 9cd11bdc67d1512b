//! The public suite against a real directory.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

use std::{
    fs,
    os::unix::{ffi::OsStrExt, fs::symlink},
    sync::Arc,
};

use async_trait::async_trait;
use pangolin_inbox_dir::DirInbox;
use pangolin_ports::{
    conformance::inbox::{InboxPlace, suite},
    inbox::{Inbox, MESSAGE_BYTES_MAX},
};

struct Place(tempfile::TempDir);

#[async_trait]
impl InboxPlace for Place {
    async fn open(&self) -> Arc<dyn Inbox> {
        Arc::new(DirInbox::open(self.0.path().join("inbox")).unwrap())
    }

    async fn plant_unreadable(&self) -> Vec<String> {
        let waiting = self.0.path().join("inbox/waiting");
        let secret = self.0.path().join("secret");
        fs::write(&secret, b"{}").unwrap();
        symlink(&secret, waiting.join("link")).unwrap();
        symlink("nowhere", waiting.join("dangling")).unwrap();
        nix::unistd::mkfifo(&waiting.join("fifo"), nix::sys::stat::Mode::S_IRUSR).unwrap();
        fs::create_dir(waiting.join("folder")).unwrap();
        fs::write(waiting.join("folder/file"), b"{}").unwrap();
        // Sparse: the size counts, not the blocks.
        fs::File::create(waiting.join("huge")).unwrap().set_len(MESSAGE_BYTES_MAX + 1).unwrap();
        fs::write(waiting.join("two words.json"), b"{}").unwrap();
        fs::write(waiting.join(std::ffi::OsStr::from_bytes(b"not-\xff-utf8")), b"{}").unwrap();
        fs::write(waiting.join("n".repeat(250)), b"{}").unwrap();
        let mut names: Vec<String> =
            ["link", "dangling", "fifo", "folder", "huge", "%two%20words%2Ejson", "%not-%FF-utf8"]
                .map(str::to_owned)
                .to_vec();
        let digest = pangolin_core::ids::Digest::of("n".repeat(250).as_bytes());
        names.push(format!("%{}%-{}", "n".repeat(179), &digest.hex()[..32]));
        names
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms() {
    suite(&|| Box::new(Place(tempfile::tempdir().unwrap()))).await.assert_passed();
}
