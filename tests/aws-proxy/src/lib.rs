//! A proxy on loopback between programs and the emulators of AWS. It counts calls by kind and makes them fail by rule, so
//! that faults reach programs that run as processes of their own: the functions of a stack, and workers with pre-signed URLs.
//!
//! ```no_run
//! use pangolin_aws_proxy::{Fault, Proxy, Refusal};
//! # async fn example() -> std::io::Result<()> {
//! let proxy = Proxy::new();
//! // What the function `tick` gets as its endpoint of S3.
//! let url = proxy.front("tick", "http://127.0.0.1:9000").await?;
//! // Every first try is refused.
//! proxy.rule(|call| (call.attempt == 1).then_some(Fault::Refuse(Refusal::Unavailable)));
//! // …
//! for (kind, count) in proxy.counts() {
//!     println!("{kind}: {} calls", count.calls);
//! }
//! # Ok(()) }
//! ```
//!
//! A call is one HTTP request. The tries of one call of the SDK have the same [`Call::logical`] and count up in
//! [`Call::attempt`]; requests without the SDK's headers (pre-signed URLs) are all first attempts.
//!
//! `Host` stays what the client sent, so that signatures hold wherever somebody checks them. Bodies of S3 are streamed; the
//! bodies of JSON protocols are read whole, because what they are about stands in them.
//!
//! Deliberately not here: TLS, HTTP/2, virtual-hosted buckets, multipart uploads (they pass, and count as what their query
//! says), CBOR, delays. A reset is the end of the connection without an answer (FIN, not RST): clients cannot tell. Nothing here
//! decides by time; rules see calls in the order in which they arrive.

mod call;
mod classes;
mod fault;
mod proxy;
mod server;

pub use call::{Call, Count, Kind, Outcome};
pub use fault::{Fault, Refusal};
pub use proxy::Proxy;
