//! [`MemoryInbox`].

use std::{
    collections::HashMap,
    io,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use pangolin_core::ids::RunId;
use tokio::sync::watch;

use super::lock;
use crate::inbox::{Disposition, Inbox, InboxError, MESSAGE_BYTES_MAX, Message, WAITING_BYTES};

/// A mailbox in memory.
#[derive(Debug)]
pub struct MemoryInbox {
    state: Mutex<State>,
    /// Number of arrivals; `seen` is how many of them woke somebody.
    arrivals: watch::Sender<u64>,
    seen: AtomicU64,
    settlements: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    /// Every name in arrival order.
    order: Vec<String>,
    messages: HashMap<String, Slot>,
}

#[derive(Debug)]
struct Slot {
    /// `None` stands for a message that cannot be read.
    bytes: Option<Vec<u8>>,
    disposition: Disposition,
}

impl Default for MemoryInbox {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            // One "arrival" before the first: the first `changed` returns at once, so nobody misses what came
            // before they started to wait.
            arrivals: watch::Sender::new(1),
            seen: AtomicU64::new(0),
            settlements: watch::Sender::new(0),
        }
    }
}

impl MemoryInbox {
    /// An empty mailbox.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets a message arrive that cannot be read, as a damaged file would. For tests of what happens then.
    ///
    /// # Errors
    /// [`InboxError::AlreadyExists`] when the name is taken.
    pub fn plant_unreadable(&self, name: &str) -> Result<(), InboxError> {
        self.insert(name, None)
    }

    fn insert(&self, name: &str, bytes: Option<Vec<u8>>) -> Result<(), InboxError> {
        let mut state = lock(&self.state);
        if state.messages.contains_key(name) {
            return Err(InboxError::AlreadyExists(name.to_owned()));
        }
        state.order.push(name.to_owned());
        state.messages.insert(name.to_owned(), Slot { bytes, disposition: Disposition::Waiting });
        drop(state);
        self.arrivals.send_modify(|count| *count += 1);
        Ok(())
    }
}

#[async_trait]
impl Inbox for MemoryInbox {
    async fn send(&self, message: Message) -> Result<(), InboxError> {
        // All id types share one set of rules.
        RunId::new(message.name.as_str()).map_err(InboxError::BadName)?;
        let size = message.bytes.len() as u64;
        if size > MESSAGE_BYTES_MAX {
            return Err(InboxError::TooLarge { name: message.name, size });
        }
        self.insert(&message.name, Some(message.bytes))
    }

    async fn waiting(&self, limit: usize) -> Result<Vec<Message>, InboxError> {
        let mut state = lock(&self.state);
        let State { order, messages } = &mut *state;
        let mut waiting = Vec::new();
        let mut set_aside = false;
        let mut handed = 0;
        for name in order.iter() {
            if waiting.len() == limit || handed >= WAITING_BYTES {
                break;
            }
            let Some(slot) = messages.get_mut(name) else { continue };
            match (&slot.disposition, &slot.bytes) {
                (Disposition::Waiting, Some(bytes)) => {
                    handed += bytes.len() as u64;
                    waiting.push(Message { name: name.clone(), bytes: bytes.clone() });
                }
                (Disposition::Waiting, None) => {
                    let reason = serde_json::json!({ "reason": "the message cannot be read" });
                    slot.disposition = Disposition::Rejected(reason.to_string().into_bytes());
                    set_aside = true;
                }
                _ => {}
            }
        }
        order.retain(|name| messages.get(name).is_some_and(|slot| slot.disposition == Disposition::Waiting));
        drop(state);
        if set_aside {
            self.settlements.send_modify(|count| *count += 1);
        }
        Ok(waiting)
    }

    async fn settle(&self, name: &str, disposition: Disposition) -> Result<(), InboxError> {
        let refused = |why: &str| InboxError::Other {
            context: format!("settling message {name:?}"),
            source: Box::new(io::Error::other(why.to_owned())),
        };
        if disposition == Disposition::Waiting {
            return Err(refused("a message can be accepted or rejected, not put back"));
        }
        let mut state = lock(&self.state);
        let slot =
            state.messages.get_mut(name).ok_or_else(|| refused("there is no message with this name"))?;
        if slot.disposition == Disposition::Waiting {
            slot.disposition = disposition;
        }
        drop(state);
        self.settlements.send_modify(|count| *count += 1);
        Ok(())
    }

    async fn disposition(&self, name: &str) -> Result<Option<Disposition>, InboxError> {
        Ok(lock(&self.state).messages.get(name).map(|slot| slot.disposition.clone()))
    }

    async fn changed(&self) {
        let seen = self.seen.load(Ordering::Acquire);
        let mut arrivals = self.arrivals.subscribe();
        // The sender lives in `self`, so waiting cannot end in an error.
        if let Ok(count) = arrivals.wait_for(|count| *count > seen).await {
            self.seen.fetch_max(*count, Ordering::AcqRel);
        }
    }

    async fn settled(&self, name: &str) {
        let mut settlements = self.settlements.subscribe();
        loop {
            let slot_settled = lock(&self.state)
                .messages
                .get(name)
                .is_some_and(|slot| slot.disposition != Disposition::Waiting);
            if slot_settled || settlements.changed().await.is_err() {
                return;
            }
        }
    }
}
