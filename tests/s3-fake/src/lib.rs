//! A small strict S3 for tests: refuses what S3 refuses and what emulators let pass. It listens on loopback and keeps
//! everything in memory.
//!
//! Strict about: conditional writes (`If-None-Match: *`, also over a delete marker), SHA-256 checksums, Object Lock
//! (missing checksum, past date, mode without date, bucket without lock, deletion, shortening, change of mode, suspending
//! of versioning), bucket policies (the deny statements and conditions that Pangolin writes), and expired or altered
//! pre-signed requests as far as that shows without the key. What it does not know it answers with 501: nothing passes by
//! accident.
//!
//! Not here: signatures (any key is good), access control beyond deny statements, multipart uploads, ranges, listing with
//! a delimiter, several regions. Behaviour is taken from the API reference; the rows of `docs/aws-claims.md` say which
//! claim is shown by this program only.

mod buckets;
mod handle;
mod lock;
mod ministack;
mod policy;
mod reply;
mod server;
mod time;

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use buckets::State;
use tokio::sync::mpsc::UnboundedReceiver;

pub use buckets::{Created, StoredVersion};
pub use ministack::Ministack;

/// A running server. Stops when dropped.
#[derive(Debug)]
pub struct S3Fake {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    task: tokio::task::JoinHandle<()>,
}

impl S3Fake {
    /// Starts a server without buckets on a free port of loopback.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start() -> io::Result<Self> {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let state = Arc::new(Mutex::new(State::default()));
        let task = tokio::spawn(server::serve(listener, Arc::clone(&state)));
        Ok(Self { address, state, task })
    }

    /// URL for clients, path style.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Makes a bucket without versions.
    pub fn create_bucket(&self, name: &str) {
        self.lock().create_bucket(name, false);
    }

    /// Makes a bucket with versions and Object Lock.
    pub fn create_locked_bucket(&self, name: &str) {
        self.lock().create_bucket(name, true);
    }

    /// Sets the policy of a bucket, as its JSON text.
    ///
    /// # Panics
    /// When there is no such bucket or the text has a part that this program cannot judge.
    pub fn set_policy(&self, bucket: &str, policy: &str) {
        let set = self.lock().set_policy(bucket, policy);
        assert!(set.is_ok(), "policy of {bucket}: {set:?}");
    }

    /// Moves the server's clock forward.
    pub fn advance_ms(&self, ms: i64) {
        self.lock().offset_ms += ms;
    }

    /// The server's clock.
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        self.lock().now_ms()
    }

    /// Puts bytes where the server keeps the newest version of an object, behind everybody's back. Makes the object when
    /// there is none. Rules do not apply.
    pub fn plant(&self, bucket: &str, key: &str, bytes: &[u8]) {
        self.lock().plant(bucket, key, bytes);
    }

    /// Adds a version (or with `None` a delete marker) on top, as somebody could who is above all policies.
    pub fn plant_version(&self, bucket: &str, key: &str, bytes: Option<&[u8]>) {
        self.lock().plant_version(bucket, key, bytes);
    }

    /// Keys of a bucket with at least one version, in order.
    #[must_use]
    pub fn keys(&self, bucket: &str) -> Vec<String> {
        self.lock().keys(bucket)
    }

    /// The versions of an object, oldest first.
    #[must_use]
    pub fn versions(&self, bucket: &str, key: &str) -> Vec<StoredVersion> {
        self.lock().versions(bucket, key)
    }

    /// Objects that clients create from now on, in order; what is planted is not among them. For event notifications.
    #[must_use]
    pub fn created(&self) -> UnboundedReceiver<Created> {
        let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
        self.lock().watchers.push(sender);
        receiver
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for S3Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}
