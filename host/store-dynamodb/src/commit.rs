//! Sending a transaction until its outcome is known or the tries are used up.

use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::ReturnConsumedCapacity;
use pangolin_ports::run_store::{Batch, Commit, RunStoreError};
use sha2::{Digest as _, Sha256};

use crate::{
    DynamoRunStore,
    meter::{Operation, Units},
    retry::{Failure, sort},
    transaction::{Cancelled, Transaction},
};

/// What one request said.
enum Answer {
    Done(Commit),
    /// Not done by this request; the reason for the log and the error.
    Again(String),
    /// Perhaps done by this request.
    Unclear(String),
    /// Not done by this request, and its token is used up.
    OtherContent,
    Failed(RunStoreError),
}

impl DynamoRunStore {
    /// Commits a batch that keeps the rules and the limits.
    ///
    /// A request may take effect and its answer be lost. Then the next one meets the item of the batch id, or is
    /// recognised by its token, and either way says that the batch is committed. So repeating is always sound, and what
    /// stays unclear is only whether the last request took effect. It is asked once more with a read.
    pub(crate) async fn commit_checked(&self, batch: &Batch) -> Result<Commit, RunStoreError> {
        let transaction = Transaction::new(&self.table, batch).map_err(|error| RunStoreError::Other {
            context: format!("building the transaction for batch {}", batch.id),
            source: Box::new(error),
        })?;
        let mut token = self.token(&batch.id);
        // Whether an earlier request may have taken effect, or may yet.
        let mut unclear = false;
        let mut tries = 0;
        loop {
            tries += 1;
            let why = match self.send(&transaction, &token).await {
                Answer::Done(commit) => return Ok(commit),
                Answer::Failed(error) if unclear => return self.after_failure(batch, error).await,
                Answer::Failed(error) => return Err(error),
                Answer::Again(why) => {
                    // A cancelled transaction is over; how long its token remembers that is not documented.
                    token = self.token(&batch.id);
                    why
                }
                Answer::OtherContent => {
                    token = self.token(&batch.id);
                    format!("committing to table {}: the token was used for another content", self.table)
                }
                Answer::Unclear(why) => {
                    unclear = true;
                    why
                }
            };
            tracing::debug!(batch = batch.id, tries, why, "a transaction is sent again");
            if !self.retry.pause(tries).await {
                return self.give_up(batch, unclear, why).await;
            }
        }
    }

    /// After an error that is no use to repeat, when an earlier request may have taken effect.
    async fn after_failure(&self, batch: &Batch, error: RunStoreError) -> Result<Commit, RunStoreError> {
        match (self.was_committed_now(&batch.id).await, error) {
            (Ok(true), _) => Ok(Commit::Committed),
            // Busy would say that nothing was written.
            (Ok(false), RunStoreError::Busy(_)) | (Err(_), _) => Ok(Commit::Unknown),
            (Ok(false), error) => Err(error),
        }
    }

    async fn give_up(&self, batch: &Batch, unclear: bool, why: String) -> Result<Commit, RunStoreError> {
        if !unclear {
            return Err(RunStoreError::Busy(why));
        }
        // Not there now does not mean never: a request without an answer may still be on its way.
        match self.was_committed_now(&batch.id).await {
            Ok(true) => Ok(Commit::Committed),
            Ok(false) | Err(_) => {
                tracing::warn!(batch = batch.id, why, "the outcome of a commit is unknown");
                Ok(Commit::Unknown)
            }
        }
    }

    async fn send(&self, transaction: &Transaction<'_>, token: &str) -> Answer {
        self.meter.request(Operation::Commit);
        let request = self
            .client
            .transact_write_items()
            .set_transact_items(Some(transaction.items.clone()))
            .client_request_token(token)
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        let error = match request.send().await {
            Ok(output) => {
                self.meter.answer(Operation::Commit, Units::Write, output.consumed_capacity());
                return Answer::Done(Commit::Committed);
            }
            Err(error) => error,
        };
        if let Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) =
            error.as_service_error()
        {
            return self.cancelled(transaction, transaction.explain(cancelled.cancellation_reasons())).await;
        }
        match sort(&self.table, "committing to", error) {
            Failure::Refused(why) => Answer::Again(why),
            Failure::Unclear(why) => Answer::Unclear(why),
            Failure::OtherContent => Answer::OtherContent,
            Failure::Final(error) => Answer::Failed(error),
        }
    }

    async fn cancelled(&self, transaction: &Transaction<'_>, why: Cancelled) -> Answer {
        let id = transaction.batch_id();
        match why {
            Cancelled::Known => Answer::Done(Commit::Committed),
            // A repeated batch nearly always fails its guards. That DynamoDB then also names the item of the batch id is
            // not promised, so look.
            Cancelled::Guard { guard, found } => match self.was_committed_now(id).await {
                Ok(true) => Answer::Done(Commit::Committed),
                Ok(false) => Answer::Done(Commit::GuardFailed { guard, found }),
                Err(error) => Answer::Failed(error),
            },
            Cancelled::Passing(why) => Answer::Again(format!("committing to table {}: {why}", self.table)),
            Cancelled::Damaged(what) => {
                Answer::Failed(RunStoreError::Damaged(format!("table {}: {what}", self.table)))
            }
            Cancelled::Refused(why) => Answer::Failed(RunStoreError::Other {
                context: format!("committing batch {id} to table {}", self.table),
                source: why.into(),
            }),
        }
    }

    /// A new token for a batch: at most 36 characters, never used before. It lets DynamoDB recognise a request that is
    /// sent twice at once; the item of the batch id does the rest, and longer than the ten minutes that a token lives.
    fn token(&self, batch_id: &str) -> String {
        let count = self.tokens.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let mut hash = Sha256::new();
        hash.update(self.instance.to_be_bytes());
        hash.update(count.to_be_bytes());
        hash.update(batch_id);
        hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }
}
