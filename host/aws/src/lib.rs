//! One way to make AWS clients.
//!
//! [`AwsConfig`] is what a user or a stack says (region, profile, endpoints); everything left open comes from the usual
//! environment and profile files. [`Aws::open`] makes one shared configuration of it, and every adapter takes its
//! client's part with [`Aws::sdk`]. TLS is rustls with ring; the root certificates are read with the first `https`
//! request and not when a client is made, which keeps the start of a Lambda short.
//!
//! With feature `faults`, [`faults`] is an HTTP layer that fails, doubles and holds calls by a script. For tests.
//!
//! Deliberately not here: any service's client (the adapters have them), and credentials as configuration: they come from
//! the environment, a profile or the role of the Lambda, never from a file of ours.

mod call;
mod config;
#[cfg(feature = "faults")]
pub mod faults;
mod http;
mod open;
mod pauses;

pub use aws_types::SdkConfig;
pub use call::CallError;
pub use config::{AwsConfig, ConfigError, Retries, Service, Timeouts};
pub use open::{Aws, OpenError};
pub use pauses::Pauses;
