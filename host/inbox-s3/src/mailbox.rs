//! What messages are made of objects.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use futures_util::{StreamExt, TryStreamExt, stream};
use pangolin_ports::{
    inbox::{Disposition, InboxError, MESSAGE_BYTES_MAX, Message, WAITING_BYTES},
    message_name::{can_be_answered, check_name, escape},
};
use tracing::warn;

use crate::objects::{Created, Listed, Marks, Objects, Place, Refusal};

/// Requests at once.
const TOGETHER: usize = 16;

/// So many messages of one second are put in order by the sender's clock, which costs one request each, once. More are taken
/// by name: a flood may not hold up everybody else.
const ORDERED_MAX: usize = 2_000;

/// Objects that are no messages and are taken out of the way by one look. More wait for the next: who plants them may not keep
/// the look from what else there is to do.
const SET_ASIDE_MAX: usize = 256;

/// An answer holds a receipt or findings; a plan has at most as many bytes.
const ANSWER_BYTES_MAX: u64 = MESSAGE_BYTES_MAX;

/// What a look found.
pub(crate) struct Looked {
    pub(crate) messages: Vec<Message>,
    /// Objects that were handed out or set aside.
    pub(crate) known: HashSet<Listed>,
}

#[derive(Debug)]
pub(crate) struct Mailbox {
    objects: Objects,
    /// Stamp of our last message: the next one gets a later one, even if the clock says otherwise.
    last_sent_ns: Mutex<i128>,
    /// When waiting messages were sent, as far as it was asked for.
    sent_ns: Mutex<HashMap<Listed, i128>>,
}

impl Mailbox {
    pub(crate) fn new(objects: Objects) -> Self {
        Self { objects, last_sent_ns: Mutex::new(0), sent_ns: Mutex::default() }
    }

    pub(crate) async fn send(&self, message: Message) -> Result<(), InboxError> {
        let Message { name, bytes } = message;
        check_name(&name).map_err(InboxError::BadName)?;
        let size = bytes.len() as u64;
        if size > MESSAGE_BYTES_MAX {
            return Err(InboxError::TooLarge { name, size });
        }
        let ours = self.new_marks()?;
        if self.objects.marks(Place::Done, &name).await?.is_some() {
            return Err(InboxError::AlreadyExists(name));
        }
        loop {
            let created = self.objects.create(Place::New, &name, &bytes, &ours).await?;
            let mut is_gone = false;
            if created == Created::Exists {
                match self.objects.marks(Place::New, &name).await? {
                    // An earlier try of ours arrived and its answer got lost.
                    Some(found) if found.message == ours.message => {}
                    Some(_) => return Err(InboxError::AlreadyExists(name)),
                    None => is_gone = true,
                }
            }
            // An answer by now is one to our message from a quick daemon, or an older message with this name was settled
            // and removed between the steps above. The answer says which message it is about.
            return match self.objects.marks(Place::Done, &name).await? {
                Some(answer) if answer.message == ours.message => Ok(()),
                Some(_) => Err(InboxError::AlreadyExists(name)),
                None if is_gone => continue,
                None => Ok(()),
            };
        }
    }

    pub(crate) async fn list(&self) -> Result<Vec<Listed>, InboxError> {
        self.objects.list().await
    }

    pub(crate) async fn waiting(&self, limit: usize) -> Result<Looked, InboxError> {
        let mut known = HashSet::new();
        let mut seconds: BTreeMap<i64, Vec<Listed>> = BTreeMap::new();
        let mut useless = Vec::new();
        for object in self.objects.list().await? {
            match fault(&object) {
                Some(reason) => useless.push((object, reason)),
                None => seconds.entry(object.modified_s).or_default().push(object),
            }
        }
        let mut refused = Vec::new();
        let mut handed = 0;
        let mut messages = Vec::new();
        for (_, mut objects) in seconds {
            let mut room = limit - messages.len();
            if objects.len() > room {
                // Who of this second comes first decides who is handed out at all.
                objects = self.in_order_of_sending(objects).await?;
            }
            let mut of_second = Vec::new();
            let mut objects = objects.into_iter();
            while room > 0 && objects.len() > 0 && handed < WAITING_BYTES {
                let (mut batch, mut planned) = (Vec::new(), handed);
                while batch.len() < room && planned < WAITING_BYTES {
                    let Some(object) = objects.next() else { break };
                    planned += object.size;
                    batch.push(object);
                }
                known.extend(batch.iter().cloned());
                let reading = stream::iter(batch).map(|object| self.take(object)).buffered(TOGETHER);
                for taken in reading.try_collect::<Vec<_>>().await? {
                    match taken {
                        Taken::Message(message) => {
                            handed += message.message.bytes.len() as u64;
                            of_second.push(message);
                        }
                        Taken::Refused(object, why) => refused.push((object, why)),
                        Taken::Gone => {}
                    }
                }
                room = limit - messages.len() - of_second.len();
            }
            of_second.sort_by(|left, right| left.order().cmp(&right.order()));
            messages.extend(of_second.into_iter().map(|stamped| stamped.message));
            if messages.len() == limit || handed >= WAITING_BYTES {
                break;
            }
        }
        // Refused for what it is and not for who asks: others were read, or the refusal says so.
        for (object, why) in refused {
            if why.is_of_object || !messages.is_empty() {
                useless.push((object, format!("S3 does not hand it out: {}", why.text)));
            } else {
                let url = self.objects.url(Place::New, &object.name);
                warn!(object = url, why = why.text, "S3 does not hand a message out");
            }
        }
        useless.truncate(SET_ASIDE_MAX);
        known.extend(useless.iter().map(|(object, _)| object.clone()));
        stream::iter(useless)
            .for_each_concurrent(TOGETHER, async |(object, reason)| self.set_aside(&object, &reason).await)
            .await;
        Ok(Looked { messages, known })
    }

    /// Sorts objects of one second by the sender's clock.
    async fn in_order_of_sending(&self, mut objects: Vec<Listed>) -> Result<Vec<Listed>, InboxError> {
        if objects.len() > ORDERED_MAX {
            objects.sort_by(|left, right| left.name.cmp(&right.name));
            return Ok(objects);
        }
        let asking = stream::iter(objects).map(async |object| {
            let known = self.stamps().get(&object).copied();
            let sent_ns = match known {
                Some(sent_ns) => sent_ns,
                None => match self.objects.marks(Place::New, &object.name).await {
                    // Reading it says so again, and more.
                    Err(error) if Refusal::of(&error).is_some() => 0,
                    marks => marks?.unwrap_or_default().sent_ns,
                },
            };
            Ok::<_, InboxError>((sent_ns, object))
        });
        let mut objects: Vec<(i128, Listed)> = asking.buffered(TOGETHER).try_collect().await?;
        objects.sort_by(|left, right| (left.0, &left.1.name).cmp(&(right.0, &right.1.name)));
        // Only those that still wait are remembered.
        *self.stamps() = objects.iter().map(|(sent_ns, object)| (object.clone(), *sent_ns)).collect();
        Ok(objects.into_iter().map(|(_, object)| object).collect())
    }

    fn stamps(&self) -> MutexGuard<'_, HashMap<Listed, i128>> {
        self.sent_ns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads a message.
    async fn take(&self, object: Listed) -> Result<Taken, InboxError> {
        if self.objects.marks(Place::Done, &object.name).await?.is_some() {
            // Whoever settled it did not come to removing it.
            self.tidy(&object.name).await;
            return Ok(Taken::Gone);
        }
        match self.objects.read(Place::New, &object.name, MESSAGE_BYTES_MAX).await {
            Ok(None) => Ok(Taken::Gone),
            Ok(Some((bytes, marks))) => {
                let message = Message { name: object.name, bytes };
                Ok(Taken::Message(Stamped { sent_ns: marks.sent_ns, message }))
            }
            Err(error) => match Refusal::of(&error) {
                Some(why) => Ok(Taken::Refused(object, why)),
                None => Err(error),
            },
        }
    }

    pub(crate) async fn settle(&self, name: &str, disposition: &Disposition) -> Result<(), InboxError> {
        let refused = |why: &str| {
            let context = format!("settling message {}", self.objects.url(Place::New, name));
            InboxError::Other { context, source: Box::new(io::Error::other(why.to_owned())) }
        };
        if *disposition == Disposition::Waiting {
            return Err(refused("a message can be accepted or rejected, not put back"));
        }
        let absent = || refused("there is no message with this name");
        if !can_be_answered(name) {
            return Err(absent());
        }
        match self.objects.marks(Place::New, name).await? {
            Some(message) => self.answer(name, disposition, message.message).await?,
            // Settled and removed, or never sent. Reading tells an absent bucket from an absent answer.
            None if self.objects.read(Place::Done, name, ANSWER_BYTES_MAX).await?.is_some() => return Ok(()),
            None => return Err(absent()),
        }
        self.tidy(name).await;
        Ok(())
    }

    pub(crate) async fn disposition(&self, name: &str) -> Result<Option<Disposition>, InboxError> {
        if !can_be_answered(name) {
            return Ok(None);
        }
        if let Some(answer) = self.answered(name).await? {
            return Ok(Some(answer));
        }
        if self.objects.marks(Place::New, name).await?.is_some() {
            return Ok(Some(Disposition::Waiting));
        }
        // Settled and removed between the two looks.
        self.answered(name).await
    }

    /// Whether there is an answer, or never was a message.
    pub(crate) async fn is_settled(&self, name: &str) -> Result<bool, InboxError> {
        if !can_be_answered(name) {
            return Ok(true);
        }
        Ok(self.objects.marks(Place::Done, name).await?.is_some())
    }

    async fn answered(&self, name: &str) -> Result<Option<Disposition>, InboxError> {
        let Some((bytes, _)) = self.objects.read(Place::Done, name, ANSWER_BYTES_MAX).await? else {
            return Ok(None);
        };
        if let Some(answer) = bytes.strip_prefix(b"accepted\n") {
            Ok(Some(Disposition::Accepted(answer.to_vec())))
        } else if let Some(answer) = bytes.strip_prefix(b"rejected\n") {
            Ok(Some(Disposition::Rejected(answer.to_vec())))
        } else {
            let why =
                "the object does not start with \"accepted\" or \"rejected\": it was not written by Pangolin";
            let context = format!("reading the answer {}", self.objects.url(Place::Done, name));
            Err(InboxError::Other { context, source: Box::new(io::Error::other(why)) })
        }
    }

    /// Writes the answer unless there is one: the first stays.
    async fn answer(
        &self,
        name: &str,
        disposition: &Disposition,
        message: Option<String>,
    ) -> Result<(), InboxError> {
        let (head, bytes): (&[u8], _) = match disposition {
            Disposition::Accepted(bytes) => (b"accepted\n", bytes),
            Disposition::Rejected(bytes) => (b"rejected\n", bytes),
            Disposition::Waiting => return Ok(()),
        };
        let marks = Marks { message, sent_ns: 0 };
        self.objects.create(Place::Done, name, &[head, bytes.as_slice()].concat(), &marks).await?;
        Ok(())
    }

    /// Takes an object that is no message out of the way and says why. Whatever goes wrong with one object is logged and
    /// stops nobody; the next look tries again.
    async fn set_aside(&self, object: &Listed, reason: &str) {
        let Listed { name, size, .. } = object;
        let key = if check_name(name).is_ok() { name.clone() } else { escape(name.as_bytes()) };
        warn!(object = self.objects.url(Place::New, name), reason, "set a message aside");
        let reason = serde_json::json!({ "reason": reason, "object": name, "size": size });
        let answer = Disposition::Rejected(reason.to_string().into_bytes());
        match self.answer(&key, &answer, None).await {
            Ok(()) => self.tidy(name).await,
            Err(error) => warn!(%error, source = ?std::error::Error::source(&error), "cannot set it aside"),
        }
    }

    /// Removes a settled message. Its failure changes nothing: the answer counts.
    async fn tidy(&self, name: &str) {
        if let Err(error) = self.objects.remove(Place::New, name).await {
            warn!(%error, source = ?std::error::Error::source(&error), "cannot remove a settled message");
        }
    }

    /// Marks of a new message.
    fn new_marks(&self) -> Result<Marks, InboxError> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|error| InboxError::Other {
            context: "getting a random number for a message".to_owned(),
            source: Box::new(io::Error::other(error.to_string())),
        })?;
        let message = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let mut last = self.last_sent_ns.lock().unwrap_or_else(PoisonError::into_inner);
        *last = i128::try_from(now).unwrap_or(i128::MAX).max(*last + 1);
        Ok(Marks { message: Some(message), sent_ns: *last })
    }
}

/// What came of reading an object.
enum Taken {
    Message(Stamped),
    /// It is there, and S3 does not hand it out.
    Refused(Listed, Refusal),
    /// It is settled or gone.
    Gone,
}

/// A message that was read.
struct Stamped {
    sent_ns: i128,
    message: Message,
}

impl Stamped {
    fn order(&self) -> (i128, &str) {
        (self.sent_ns, &self.message.name)
    }
}

/// Why an object is no message.
fn fault(object: &Listed) -> Option<String> {
    if let Err(error) = check_name(&object.name) {
        return Some(format!("its name is invalid: {error}"));
    }
    (object.size > MESSAGE_BYTES_MAX).then(|| format!("it has more than {MESSAGE_BYTES_MAX} bytes"))
}
