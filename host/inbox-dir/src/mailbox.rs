//! The directory tree and the work on it.

use std::{
    ffi::OsStr,
    fs, io,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use pangolin_ports::{
    inbox::{Disposition, InboxError, MESSAGE_BYTES_MAX, Message, WAITING_BYTES},
    message_name::{can_be_answered, check_name, escape},
};
use tracing::warn;

use crate::files::{
    ReadError, create_dir, create_new, create_whole, exists, failed, identity, move_aside, read_regular,
    remove_stale, sync_dir, too_large,
};

/// Where things are.
#[derive(Debug, Clone)]
pub(crate) struct Mailbox {
    dir: PathBuf,
    waiting: PathBuf,
    answers: PathBuf,
    accepted: PathBuf,
    rejected: PathBuf,
    tmp: PathBuf,
    /// Time stamp of our last message: the next one gets a later one, even if the clock says otherwise.
    last_stamp: Arc<Mutex<SystemTime>>,
}

impl Mailbox {
    pub(crate) fn open(dir: &Path) -> Result<Self, InboxError> {
        let mailbox = Self {
            dir: dir.to_owned(),
            waiting: dir.join("waiting"),
            answers: dir.join("answers"),
            accepted: dir.join("accepted"),
            rejected: dir.join("rejected"),
            tmp: dir.join("tmp"),
            last_stamp: Arc::new(Mutex::new(SystemTime::UNIX_EPOCH)),
        };
        fs::create_dir_all(dir.parent().unwrap_or(dir)).map_err(|error| failed("creating", dir, error))?;
        create_dir(dir)?;
        for part in [&mailbox.waiting, &mailbox.answers, &mailbox.accepted, &mailbox.rejected, &mailbox.tmp] {
            create_dir(part)?;
        }
        sync_dir(dir)?;
        remove_stale(&mailbox.tmp);
        Ok(mailbox)
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn waiting_dir(&self) -> &Path {
        &self.waiting
    }

    pub(crate) fn answers_dir(&self) -> &Path {
        &self.answers
    }

    pub(crate) fn send(&self, message: &Message) -> Result<(), InboxError> {
        let name = &message.name;
        check_name(name).map_err(InboxError::BadName)?;
        let size = message.bytes.len() as u64;
        if size > MESSAGE_BYTES_MAX {
            return Err(InboxError::TooLarge { name: name.clone(), size });
        }
        let taken = || Err(InboxError::AlreadyExists(name.clone()));
        let (to, answer) = (self.waiting.join(name), self.answers.join(name));
        if exists(&answer)? {
            return taken();
        }
        let Some(ours) = create_new(&self.tmp, &to, &[&message.bytes], Some(self.stamp()))? else {
            return taken();
        };
        // An answer by now is one to our message from a quick daemon, or an older message with this name was settled
        // and moved out between the two steps above. That one lies where settled messages go.
        let settled = [identity(&self.accepted.join(name))?, identity(&self.rejected.join(name))?];
        if settled.into_iter().flatten().any(|file| file != ours) {
            return match fs::remove_file(&to) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("removing", &to, error)),
                _ => taken(),
            };
        }
        Ok(())
    }

    pub(crate) fn waiting(&self, limit: usize) -> Result<Vec<Message>, InboxError> {
        let mut arrived = Vec::new();
        let reading = |error| failed("reading", &self.waiting, error);
        for entry in fs::read_dir(&self.waiting).map_err(reading)? {
            let entry = entry.map_err(reading)?;
            let file_name = entry.file_name();
            // Being written by some other tool.
            if file_name.as_encoded_bytes().starts_with(b".") {
                continue;
            }
            // Does not follow links.
            let metadata = match entry.metadata() {
                Ok(metadata) => metadata,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(failed("inspecting", &entry.path(), error)),
            };
            let name = match file_name.to_str().map(|name| (name, check_name(name))) {
                Some((name, Ok(()))) => name.to_owned(),
                Some((_, Err(error))) => {
                    self.set_aside(
                        &file_name,
                        &escape(file_name.as_bytes()),
                        &format!("its name is invalid: {error}"),
                    );
                    continue;
                }
                None => {
                    self.set_aside(&file_name, &escape(file_name.as_bytes()), "its name is not UTF-8");
                    continue;
                }
            };
            if !metadata.is_file() {
                self.set_aside(&file_name, &name, "it is not a regular file");
            } else if metadata.len() > MESSAGE_BYTES_MAX {
                self.set_aside(&file_name, &name, &too_large(MESSAGE_BYTES_MAX));
            } else {
                arrived.push((metadata.modified().map_err(reading)?, name));
            }
        }
        arrived.sort();
        let (mut messages, mut handed) = (Vec::new(), 0);
        for (_, name) in arrived {
            if messages.len() == limit || handed >= WAITING_BYTES {
                break;
            }
            if let Some(answer) = self.answer(&name)? {
                self.move_out(&name, &answer);
                continue;
            }
            let path = self.waiting.join(&name);
            match read_regular(&path, MESSAGE_BYTES_MAX) {
                Ok(bytes) => {
                    handed += bytes.len() as u64;
                    messages.push(Message { name, bytes });
                }
                Err(ReadError::Gone) => {}
                Err(ReadError::BadFile(reason)) => self.set_aside(OsStr::new(&name), &name, &reason),
                Err(ReadError::Trouble(error)) => return Err(failed("reading", &path, error)),
            }
        }
        Ok(messages)
    }

    pub(crate) fn settle(&self, name: &str, disposition: &Disposition) -> Result<(), InboxError> {
        let refused = |why: &str| {
            let context = format!("settling message {name:?} in {}", self.dir.display());
            InboxError::Other { context, source: Box::new(io::Error::other(why.to_owned())) }
        };
        if *disposition == Disposition::Waiting {
            return Err(refused("a message can be accepted or rejected, not put back"));
        }
        match self.disposition(name)? {
            None => return Err(refused("there is no message with this name")),
            Some(Disposition::Waiting) => {
                self.write_answer(name, disposition)?;
            }
            Some(_) => {}
        }
        // Ours or that of a daemon that was faster.
        if let Some(answer) = self.answer(name)? {
            self.move_out(name, &answer);
        }
        Ok(())
    }

    pub(crate) fn disposition(&self, name: &str) -> Result<Option<Disposition>, InboxError> {
        if !can_be_answered(name) {
            return Ok(None);
        }
        if let Some(answer) = self.answer(name)? {
            return Ok(Some(answer));
        }
        if exists(&self.waiting.join(name))? {
            return Ok(Some(Disposition::Waiting));
        }
        // Settled and moved out between the two looks.
        self.answer(name)
    }

    /// Whether ours became the answer.
    fn write_answer(&self, name: &str, answer: &Disposition) -> Result<bool, InboxError> {
        let parts: [&[u8]; 2] = match answer {
            Disposition::Accepted(bytes) => [b"accepted\n", bytes],
            Disposition::Rejected(bytes) => [b"rejected\n", bytes],
            Disposition::Waiting => return Ok(false),
        };
        create_whole(&self.tmp, &self.answers.join(name), &parts, None)
    }

    fn answer(&self, name: &str) -> Result<Option<Disposition>, InboxError> {
        let path = self.answers.join(name);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("reading", &path, error)),
        };
        if let Some(answer) = bytes.strip_prefix(b"accepted\n") {
            Ok(Some(Disposition::Accepted(answer.to_vec())))
        } else if let Some(answer) = bytes.strip_prefix(b"rejected\n") {
            Ok(Some(Disposition::Rejected(answer.to_vec())))
        } else {
            let why = "the file does not start with \"accepted\" or \"rejected\"; restore it from a backup";
            Err(failed("reading the answer", &path, io::Error::other(why)))
        }
    }

    /// Takes an unreadable file out of the way and says why. Whatever goes wrong with one file is logged and stops
    /// nobody; the next look tries again.
    fn set_aside(&self, file_name: &OsStr, key: &str, reason: &str) {
        let path = self.waiting.join(file_name);
        warn!(path = %path.display(), reason, "set a message aside");
        let reason = serde_json::json!({ "reason": reason, "file": file_name.to_string_lossy() });
        let answer = Disposition::Rejected(reason.to_string().into_bytes());
        let result = self.write_answer(key, &answer).and_then(|_| {
            let to = self.rejected.join(key);
            move_aside(&path, &to).map_err(|error| failed("setting aside", &path, error))
        });
        if let Err(error) = result {
            warn!(path = %path.display(), %error, source = ?std::error::Error::source(&error), "cannot set it aside");
        }
    }

    /// Tidies up after an answer. Its failure changes nothing: the answer counts.
    fn move_out(&self, name: &str, answer: &Disposition) {
        let to = match answer {
            Disposition::Accepted(_) => &self.accepted,
            _ => &self.rejected,
        };
        let from = self.waiting.join(name);
        match move_aside(&from, &to.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                warn!(path = %from.display(), %error, "cannot move a settled message out of the inbox");
            }
            _ => {}
        }
    }

    /// Now, but later than every stamp before.
    fn stamp(&self) -> SystemTime {
        let mut last = self.last_stamp.lock().unwrap_or_else(PoisonError::into_inner);
        *last = SystemTime::now().max(*last + Duration::from_nanos(1));
        *last
    }
}
