//! The suites can fail: each deliberately broken adapter here is rejected, by the check that is meant to see it.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use pangolin_core::ids::Digest;
use pangolin_ports::{
    blob_store::{BlobError, BlobStore},
    commit_limits::CommitLimits,
    conformance::{Report, blob_store, inbox, run_store},
    inbox::{Disposition, Inbox, InboxError, Message, WAITING_BYTES},
    memory::{MemoryBlobStore, MemoryInbox, MemoryRunStore},
    run_store::{
        Batch, Cell, CellKey, Commit, Guard, Head, Record, RunStore, RunStoreError, StreamName, Write,
    },
};

fn assert_caught(mutant: &str, report: &Report, by: &[&str]) {
    let failed: Vec<_> = report.violations.iter().map(|(check, _)| *check).collect();
    for check in by {
        assert!(failed.contains(check), "mutant {mutant} passed the check {check}; only {failed:?} failed");
    }
}

#[derive(Debug, Clone, Copy)]
enum RunFault {
    IgnoresHeads,
    IgnoresAbsent,
    AcceptsAnyVersion,
    AppliesWritesOfRefusedBatches,
    AppliesReplays,
    RemembersRefusedIds,
    ForgetsVersionsOfDeletedCells,
    ChecksGuardsTooEarly,
    AcceptsAnySize,
    TreatsUnderscoreAsWildcard,
    RepeatsTheLastKeyOfAPage,
    ReadsPastTheLimit,
    LosesTheLastRecordOnReopening,
    BlamesTheLastGuard,
    PromisesMoreThanItTakes,
    TakesMoreThanItSays,
}

struct BrokenRuns {
    inner: Arc<MemoryRunStore>,
    fault: RunFault,
    /// Numbers that make ids unique and versions wrong.
    counter: Arc<AtomicU64>,
    refused: Arc<Mutex<Vec<String>>>,
    /// Lengths of streams when the store was opened, or versions of cells when they were deleted.
    cut: Arc<Mutex<HashMap<String, u64>>>,
}

#[async_trait]
impl RunStore for BrokenRuns {
    fn limits(&self) -> CommitLimits {
        match self.fault {
            RunFault::PromisesMoreThanItTakes | RunFault::TakesMoreThanItSays => CommitLimits::LEAST,
            _ => self.inner.limits(),
        }
    }

    async fn commit(&self, mut batch: Batch) -> Result<Commit, RunStoreError> {
        match self.fault {
            RunFault::IgnoresHeads => {
                // Replaces each expected head by the real one.
                for guard in &mut batch.guards {
                    if let Guard::HeadIs { stream, head } = guard {
                        *head = self.inner.head(stream).await?;
                    }
                }
            }
            RunFault::IgnoresAbsent => batch.guards.retain(|guard| !matches!(guard, Guard::Absent(_))),
            RunFault::AcceptsAnyVersion => {
                for guard in &mut batch.guards {
                    if let Guard::VersionIs { key, version } = guard
                        && let Some(cell) = self.inner.get(key).await?
                    {
                        *version = cell.version;
                    }
                }
            }
            RunFault::AppliesReplays => {
                let number = self.counter.fetch_add(1, Ordering::Relaxed);
                let known = self.inner.was_committed(&batch.id).await?;
                if known {
                    batch.id = format!("{}#{number}", batch.id);
                }
            }
            RunFault::RemembersRefusedIds => {
                if self.refused.lock().unwrap().contains(&batch.id) {
                    return Ok(Commit::Committed);
                }
                let id = batch.id.clone();
                let answer = self.inner.commit(batch).await?;
                if matches!(answer, Commit::GuardFailed { .. }) {
                    self.refused.lock().unwrap().push(id);
                }
                return Ok(answer);
            }
            RunFault::AppliesWritesOfRefusedBatches => {
                let alone = Batch {
                    id: format!("{}#writes", batch.id),
                    writes: batch.writes.clone(),
                    ..Batch::default()
                };
                let answer = self.inner.commit(batch).await?;
                if matches!(answer, Commit::GuardFailed { .. }) {
                    self.inner.commit(alone).await?;
                }
                return Ok(answer);
            }
            RunFault::ForgetsVersionsOfDeletedCells => {
                // From now on `get` counts from here.
                for write in &batch.writes {
                    if let Write::Delete(key) = write
                        && let Some(cell) = self.inner.get(key).await?
                    {
                        self.cut.lock().unwrap().insert(key.clone(), cell.version);
                    }
                }
            }
            RunFault::ChecksGuardsTooEarly => {
                for (index, guard) in batch.guards.iter().enumerate() {
                    let holds = match guard {
                        Guard::HeadIs { stream, head } => self.inner.head(stream).await? == *head,
                        Guard::Absent(key) => self.inner.get(key).await?.is_none(),
                        Guard::VersionIs { key, version } => {
                            self.inner.get(key).await?.is_some_and(|cell| cell.version == *version)
                        }
                    };
                    if !holds && !self.inner.was_committed(&batch.id).await? {
                        return Ok(Commit::GuardFailed { guard: index, found: "something".to_owned() });
                    }
                }
                // Others get in between here, and nobody looks again.
                for _ in 0..20 {
                    tokio::task::yield_now().await;
                }
                batch.guards.retain(|guard| matches!(guard, Guard::HeadIs { .. }));
            }
            RunFault::AcceptsAnySize => {
                for append in &mut batch.appends {
                    for (_, bytes) in &mut append.records {
                        bytes.truncate(60_000);
                    }
                }
                for write in &mut batch.writes {
                    if let Write::Put { value, .. } = write {
                        value.truncate(64 << 10);
                    }
                }
            }
            RunFault::BlamesTheLastGuard => {
                let last = batch.guards.len().saturating_sub(1);
                return Ok(match self.inner.commit(batch).await? {
                    Commit::GuardFailed { found, .. } => Commit::GuardFailed { guard: last, found },
                    other => other,
                });
            }
            RunFault::PromisesMoreThanItTakes => {
                CommitLimits { actions: 90, ..CommitLimits::LEAST }.check(&batch)?;
            }
            RunFault::TreatsUnderscoreAsWildcard
            | RunFault::RepeatsTheLastKeyOfAPage
            | RunFault::ReadsPastTheLimit
            | RunFault::TakesMoreThanItSays
            | RunFault::LosesTheLastRecordOnReopening => {}
        }
        self.inner.commit(batch).await
    }

    async fn was_committed(&self, batch_id: &str) -> Result<bool, RunStoreError> {
        self.inner.was_committed(batch_id).await
    }

    async fn head(&self, stream: &str) -> Result<Head, RunStoreError> {
        let head = self.inner.head(stream).await?;
        if matches!(self.fault, RunFault::LosesTheLastRecordOnReopening)
            && self.cut.lock().unwrap().get(stream) == Some(&head.len)
        {
            return Ok(Head::default());
        }
        Ok(head)
    }

    async fn read(&self, stream: &str, from: u64, limit: usize) -> Result<Vec<Record>, RunStoreError> {
        let more = matches!(self.fault, RunFault::ReadsPastTheLimit);
        self.inner.read(stream, from, if more { limit.saturating_add(1) } else { limit }).await
    }

    async fn streams(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<StreamName>, RunStoreError> {
        self.inner.streams(prefix, after, limit).await
    }

    async fn get(&self, key: &str) -> Result<Option<Cell>, RunStoreError> {
        let mut cell = self.inner.get(key).await?;
        if let (RunFault::ForgetsVersionsOfDeletedCells, Some(cell)) = (self.fault, &mut cell) {
            cell.version -= self.cut.lock().unwrap().get(key).copied().unwrap_or(0);
        }
        Ok(cell)
    }

    async fn scan(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(CellKey, Cell)>, RunStoreError> {
        match (self.fault, after) {
            (RunFault::TreatsUnderscoreAsWildcard, _) => {
                let mut all = self.inner.scan("", after, usize::MAX).await?;
                let fits = |key: &str| {
                    let mut key = key.chars();
                    prefix
                        .chars()
                        .all(|wanted| key.next().is_some_and(|found| wanted == '_' || wanted == found))
                };
                all.retain(|(key, _)| fits(key));
                all.truncate(limit);
                Ok(all)
            }
            (RunFault::RepeatsTheLastKeyOfAPage, Some(last)) if limit > 0 => {
                let mut page = self.inner.scan(prefix, after, limit - 1).await?;
                if let Some(cell) = self.inner.get(last).await? {
                    page.insert(0, (last.to_owned(), cell));
                }
                Ok(page)
            }
            _ => self.inner.scan(prefix, after, limit).await,
        }
    }
}

struct BrokenRunPlace {
    inner: Arc<MemoryRunStore>,
    fault: RunFault,
    counter: Arc<AtomicU64>,
    refused: Arc<Mutex<Vec<String>>>,
    deleted: Arc<Mutex<HashMap<String, u64>>>,
}

#[async_trait]
impl run_store::RunStorePlace for BrokenRunPlace {
    async fn open(&self) -> Arc<dyn RunStore> {
        let cut = Arc::new(Mutex::new(HashMap::new()));
        for stream in self.inner.streams("", None, usize::MAX).await.unwrap() {
            let len = self.inner.head(&stream).await.unwrap().len;
            cut.lock().unwrap().insert(stream, len);
        }
        let forgets = matches!(self.fault, RunFault::ForgetsVersionsOfDeletedCells);
        let cut = if forgets { Arc::clone(&self.deleted) } else { cut };
        Arc::new(BrokenRuns {
            inner: Arc::clone(&self.inner),
            fault: self.fault,
            counter: Arc::clone(&self.counter),
            refused: Arc::clone(&self.refused),
            cut,
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_run_stores_are_rejected() {
    use RunFault::*;
    let model = "random_operations_match_the_model";
    let mutants: &[(RunFault, &[&str])] = &[
        (IgnoresHeads, &["guard_table", "one_winner_per_head", model]),
        (IgnoresAbsent, &["guard_table", "one_winner_per_absent_cell", model]),
        (AcceptsAnyVersion, &["guard_table", "one_winner_per_version", model]),
        (AppliesWritesOfRefusedBatches, &["guard_table", model]),
        (AppliesReplays, &["same_id_is_committed_once", "one_effect_per_batch_id", model]),
        (RemembersRefusedIds, &["refused_id_can_be_used_again"]),
        (ForgetsVersionsOfDeletedCells, &["versions_never_go_back", model]),
        (ChecksGuardsTooEarly, &["one_winner_per_absent_cell", "one_winner_per_version"]),
        (AcceptsAnySize, &["record_size_limit", "cell_size_limit", model]),
        (TreatsUnderscoreAsWildcard, &["prefixes_are_literal"]),
        (RepeatsTheLastKeyOfAPage, &["prefixes_are_literal", "paging_misses_and_repeats_nothing", model]),
        (ReadsPastTheLimit, &["reading_edges", model]),
        (LosesTheLastRecordOnReopening, &["reopening_shows_everything"]),
        (BlamesTheLastGuard, &["first_failing_guard_is_named", model]),
        (PromisesMoreThanItTakes, &["batches_up_to_the_limits"]),
        (TakesMoreThanItSays, &["batches_up_to_the_limits"]),
    ];
    for (fault, by) in mutants {
        let fresh = || -> Box<dyn run_store::RunStorePlace> {
            Box::new(BrokenRunPlace {
                inner: Arc::default(),
                fault: *fault,
                counter: Arc::default(),
                refused: Arc::default(),
                deleted: Arc::default(),
            })
        };
        assert_caught(&format!("{fault:?}"), &run_store::suite(&fresh).await, by);
    }
}

#[derive(Debug, Clone, Copy)]
enum BlobFault {
    ReturnsDamagedBytes,
    IgnoresTheLimit,
    FollowsSymlinks,
    OverwritesCopies,
    KeepsNothing,
}

struct BrokenBlobs {
    inner: Arc<MemoryBlobStore>,
    fault: BlobFault,
    /// What was put, as a cache that trusts itself would keep it.
    raw: Mutex<HashMap<Digest, Vec<u8>>>,
}

#[async_trait]
impl BlobStore for BrokenBlobs {
    async fn put(&self, bytes: &[u8]) -> Result<Digest, BlobError> {
        let digest = Digest::of(bytes);
        self.raw.lock().unwrap().insert(digest, bytes.to_vec());
        if matches!(self.fault, BlobFault::KeepsNothing) { Ok(digest) } else { self.inner.put(bytes).await }
    }

    async fn put_file(&self, path: &Path) -> Result<Digest, BlobError> {
        if matches!(self.fault, BlobFault::FollowsSymlinks)
            && let Ok(bytes) = std::fs::read(path)
        {
            return self.put(&bytes).await;
        }
        self.inner.put_file(path).await
    }

    async fn get(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>, BlobError> {
        match self.fault {
            BlobFault::IgnoresTheLimit => self.inner.get(digest, u64::MAX).await,
            BlobFault::ReturnsDamagedBytes => match self.inner.get(digest, limit).await {
                Err(BlobError::Damaged { .. }) => {
                    Ok(self.raw.lock().unwrap().get(digest).cloned().unwrap_or_default())
                }
                other => other,
            },
            _ => self.inner.get(digest, limit).await,
        }
    }

    async fn copy_to(&self, digest: &Digest, to: &Path) -> Result<(), BlobError> {
        if matches!(self.fault, BlobFault::OverwritesCopies) {
            let _ = std::fs::remove_file(to);
        }
        self.inner.copy_to(digest, to).await
    }

    async fn size(&self, digest: &Digest) -> Result<Option<u64>, BlobError> {
        self.inner.size(digest).await
    }
}

struct BrokenBlobPlace {
    inner: Arc<MemoryBlobStore>,
    fault: BlobFault,
}

#[async_trait]
impl blob_store::BlobPlace for BrokenBlobPlace {
    async fn open(&self) -> Arc<dyn BlobStore> {
        Arc::new(BrokenBlobs { inner: Arc::clone(&self.inner), fault: self.fault, raw: Mutex::default() })
    }

    async fn corrupt(&self, digest: &Digest) {
        self.inner.corrupt(digest);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_blob_stores_are_rejected() {
    let mutants: &[(BlobFault, &[&str])] = &[
        (BlobFault::ReturnsDamagedBytes, &["damaged_bytes_are_never_returned"]),
        (BlobFault::IgnoresTheLimit, &["limit_is_kept"]),
        (BlobFault::FollowsSymlinks, &["only_regular_files_are_stored"]),
        (BlobFault::OverwritesCopies, &["copies_are_new_files"]),
        (BlobFault::KeepsNothing, &["bytes_come_back", "same_bytes_twice", "concurrent_puts"]),
    ];
    for (fault, by) in mutants {
        let fresh = || -> Box<dyn blob_store::BlobPlace> {
            Box::new(BrokenBlobPlace { inner: Arc::default(), fault: *fault })
        };
        assert_caught(&format!("{fault:?}"), &blob_store::suite(&fresh).await, by);
    }
}

#[derive(Debug, Clone, Copy)]
enum MailFault {
    LetsEverySenderWin,
    FreesSettledNames,
    SortsByName,
    IgnoresTheLimit,
    HandsOutEverything,
    FailsOnAnUnreadableMessage,
    TakesTheLastAnswer,
    AcceptsAnyName,
    LosesWakeUps,
}

struct BrokenMail {
    inner: Arc<MemoryInbox>,
    fault: MailFault,
    answers: Arc<Mutex<HashMap<String, Disposition>>>,
}

#[async_trait]
impl Inbox for BrokenMail {
    async fn send(&self, message: Message) -> Result<(), InboxError> {
        let name = message.name.clone();
        match (self.fault, self.inner.send(message).await) {
            (MailFault::LetsEverySenderWin, Err(InboxError::AlreadyExists(_))) => Ok(()),
            (MailFault::AcceptsAnyName, Err(InboxError::BadName(_))) => Ok(()),
            (MailFault::FreesSettledNames, Err(InboxError::AlreadyExists(_)))
                if self.inner.disposition(&name).await? != Some(Disposition::Waiting) =>
            {
                Ok(())
            }
            (_, answer) => answer,
        }
    }

    async fn waiting(&self, limit: usize) -> Result<Vec<Message>, InboxError> {
        let limit = if matches!(self.fault, MailFault::IgnoresTheLimit) { usize::MAX } else { limit };
        let mut messages = self.inner.waiting(limit).await?;
        match self.fault {
            // One more than it may.
            MailFault::HandsOutEverything
                if messages.iter().map(|message| message.bytes.len() as u64).sum::<u64>()
                    >= WAITING_BYTES =>
            {
                messages.push(messages[0].clone());
            }
            MailFault::SortsByName => messages.sort_by(|left, right| left.name.cmp(&right.name)),
            MailFault::FailsOnAnUnreadableMessage
                if matches!(self.inner.disposition("planted").await?, Some(Disposition::Rejected(_))) =>
            {
                let source = std::io::Error::other("unreadable");
                return Err(InboxError::Other { context: "reading".to_owned(), source: Box::new(source) });
            }
            _ => {}
        }
        Ok(messages)
    }

    async fn settle(&self, name: &str, disposition: Disposition) -> Result<(), InboxError> {
        self.answers.lock().unwrap().insert(name.to_owned(), disposition.clone());
        self.inner.settle(name, disposition).await
    }

    async fn disposition(&self, name: &str) -> Result<Option<Disposition>, InboxError> {
        let found = self.inner.disposition(name).await?;
        let last = self.answers.lock().unwrap().get(name).cloned();
        Ok(if matches!(self.fault, MailFault::TakesTheLastAnswer) { last.or(found) } else { found })
    }

    async fn changed(&self) {
        if matches!(self.fault, MailFault::LosesWakeUps) {
            std::future::pending::<()>().await;
        }
        self.inner.changed().await;
    }

    async fn settled(&self, name: &str) {
        if matches!(self.fault, MailFault::LosesWakeUps) {
            std::future::pending::<()>().await;
        }
        self.inner.settled(name).await;
    }
}

struct BrokenMailPlace {
    inner: Arc<MemoryInbox>,
    fault: MailFault,
    answers: Arc<Mutex<HashMap<String, Disposition>>>,
}

#[async_trait]
impl inbox::InboxPlace for BrokenMailPlace {
    async fn open(&self) -> Arc<dyn Inbox> {
        let (inner, answers) = (Arc::clone(&self.inner), Arc::clone(&self.answers));
        Arc::new(BrokenMail { inner, fault: self.fault, answers })
    }

    async fn plant_unreadable(&self) -> Vec<String> {
        self.inner.plant_unreadable("planted").unwrap();
        vec!["planted".to_owned()]
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_inboxes_are_rejected() {
    let mutants: &[(MailFault, &[&str])] = &[
        (MailFault::LetsEverySenderWin, &["names_are_taken_for_ever", "one_sender_wins"]),
        (MailFault::FreesSettledNames, &["names_are_taken_for_ever"]),
        (MailFault::SortsByName, &["messages_arrive_in_order"]),
        (MailFault::IgnoresTheLimit, &["messages_arrive_in_order"]),
        (MailFault::HandsOutEverything, &["bytes_handed_out_are_bounded"]),
        (MailFault::FailsOnAnUnreadableMessage, &["unreadable_messages_stop_nobody"]),
        (MailFault::TakesTheLastAnswer, &["first_answer_stays"]),
        (MailFault::AcceptsAnyName, &["bad_messages_are_refused"]),
        (MailFault::LosesWakeUps, &["changed_wakes", "no_wake_up_is_lost", "settled_wakes"]),
    ];
    for (fault, by) in mutants {
        let fresh = || -> Box<dyn inbox::InboxPlace> {
            Box::new(BrokenMailPlace { inner: Arc::default(), fault: *fault, answers: Arc::default() })
        };
        assert_caught(&format!("{fault:?}"), &inbox::suite_with(&fresh, Duration::from_secs(2)).await, by);
    }
}
