//! Who may drive a deployment.
//!
//! Two layers: [`Leadership`] saves wasted work (only one driver plans), the fence cell makes it safe (a driver
//! that lost leadership without noticing fails every commit).

use async_trait::async_trait;
use thiserror::Error;

/// Leadership could not be decided.
#[derive(Debug, Error)]
#[error("cannot acquire leadership: {context}")]
pub struct LeadershipError {
    /// What was tried.
    pub context: String,
    /// Why.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// Elects one driver.
#[async_trait]
pub trait Leadership: Send + Sync {
    /// Resolves when this process leads. Leadership lasts until the returned guard is dropped or the process
    /// dies; then a waiting one gets it. Never grants it to two living holders on one host.
    async fn acquire(&self) -> Result<Box<dyn std::any::Any + Send + Sync>, LeadershipError>;
}

/// Leads at once, for tests and single-shot embeddings. The fence alone keeps several of these apart.
#[derive(Debug, Default)]
pub struct Alone;

#[async_trait]
impl Leadership for Alone {
    async fn acquire(&self) -> Result<Box<dyn std::any::Any + Send + Sync>, LeadershipError> {
        Ok(Box::new(()))
    }
}
