//! When to look again, and what is new.

use std::collections::HashSet;

use tokio::time::Instant;

use crate::{Polling, objects::Listed};

/// What the last `waiting` saw.
#[derive(Debug)]
pub(crate) struct Arrivals {
    polling: Polling,
    /// Objects that were handed out or set aside: they are no news.
    known: HashSet<Listed>,
    due: Instant,
    pause: std::time::Duration,
}

impl Arrivals {
    /// The first look is due at once.
    pub(crate) fn new(polling: Polling) -> Self {
        Self { polling, known: HashSet::new(), due: Instant::now(), pause: polling.first }
    }

    /// When the next look is due.
    pub(crate) fn due(&self) -> Instant {
        self.due
    }

    /// `waiting` was called. Objects that it did not hand out, because of its limit, are still news.
    pub(crate) fn looked(&mut self, known: HashSet<Listed>) {
        self.known = known;
        self.pause = self.polling.first;
        self.due = Instant::now() + self.pause;
    }

    /// Whether the listing has something that the last `waiting` did not know.
    pub(crate) fn has_new(&mut self, listed: &[Listed]) -> bool {
        let new = listed.iter().any(|object| !self.known.contains(object));
        if new {
            // Whoever does not look at what is there is not told more often than this.
            self.pause = self.polling.first;
        } else {
            self.pause = (self.pause * 2).min(self.polling.max);
        }
        self.due = Instant::now() + self.pause;
        new
    }

    /// The look failed.
    pub(crate) fn failed(&mut self) {
        self.pause = (self.pause * 2).min(self.polling.max);
        self.due = Instant::now() + self.pause;
    }
}
