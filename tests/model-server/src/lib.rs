//! Scripted model provider on loopback for tests: speaks enough of the Anthropic messages protocol (streamed and
//! not) for an unmodified agent program to do a whole session against it, without key, tokens or network.
//!
//! Every reply is a function of the script and of the request alone, so sessions repeat exactly. Deliberately not
//! here: TLS, other providers, anything clever about HTTP (one request per connection).

mod http;
mod reply;
mod script;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

pub use reply::{CACHE_READ_TOKENS, CACHE_WRITE_TOKENS, INPUT_TOKENS, OUTPUT_TOKENS};
pub use script::{Script, UnknownScript, edit_marker};
use serde_json::Value;

/// One request that arrived.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// Method and path with query.
    pub line: String,
    /// Value of `x-api-key`, if any.
    pub api_key: Option<String>,
    /// Body, `null` when it was no JSON.
    pub body: Value,
}

/// A running server; stops accepting when dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    script: Script,
    seen: Mutex<Vec<Seen>>,
    closed: AtomicBool,
}

/// Starts a server on a free loopback port. Each connection has its own thread.
///
/// # Errors
/// When loopback cannot be bound.
pub fn serve(script: Script) -> io::Result<Server> {
    serve_on(script, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
}

/// Like [`serve`] on an address of the caller's choice.
///
/// # Errors
/// When the address cannot be bound.
pub fn serve_on(script: Script, address: SocketAddr) -> io::Result<Server> {
    let listener = TcpListener::bind(address)?;
    let address = listener.local_addr()?;
    let shared = Arc::new(Shared { script, seen: Mutex::default(), closed: AtomicBool::new(false) });
    let thread_shared = Arc::clone(&shared);
    thread::Builder::new().name("model-server".into()).spawn(move || accept(&listener, &thread_shared))?;
    Ok(Server { address, shared })
}

impl Server {
    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// For `ANTHROPIC_BASE_URL`.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Requests so far, in order of arrival.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::SeqCst);
        // Wakes the accepting thread, which then sees the flag.
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for connection in listener.incoming() {
        if shared.closed.load(Ordering::SeqCst) {
            return;
        }
        let Ok(connection) = connection else { continue };
        let shared = Arc::clone(shared);
        let _ = thread::Builder::new().name("model-request".into()).spawn(move || {
            // A client that goes away in the middle is an ordinary event here.
            let _ = answer(connection, &shared);
        });
    }
}

fn answer(mut connection: TcpStream, shared: &Shared) -> io::Result<()> {
    connection.set_read_timeout(Some(Duration::from_secs(30)))?;
    let request = http::read(&mut connection)?;
    let body: Value = serde_json::from_slice(&request.body).unwrap_or(Value::Null);
    shared.seen.lock().unwrap_or_else(PoisonError::into_inner).push(Seen {
        line: format!("{} {}", request.method, request.target),
        api_key: request.header("x-api-key").map(str::to_owned),
        body: body.clone(),
    });
    reply::send(&mut connection, &shared.script, &request, &body)
}
