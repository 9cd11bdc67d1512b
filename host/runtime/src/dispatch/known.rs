//! What names mean in a run: whatever they meant when an item of the run was first pinned to them.

use std::collections::HashSet;

use pangolin_core::{
    ids::Digest,
    pins::{Known, Pins},
    state::RunState,
};
use pangolin_orchestrator::causes::causes;
use pangolin_ports::blob_store::BlobStore;

use super::pins::PINS_BYTES_MAX;

/// What is pinned in a run by its plan and by everything that was added since.
///
/// # Errors
/// What keeps a document from being read.
pub(super) async fn of_run(run: &RunState, blobs: &dyn BlobStore) -> Result<Known, String> {
    let newest = match run.items().last() {
        Some(item) => run.pins_of(&item.plan.id),
        None => run.submitted().pins,
    };
    let mut known = Known::default();
    if let Some(digest) = newest {
        let pins = read(&digest, blobs).await?;
        if pins.v > 0 {
            return Ok(pins.known);
        }
    }
    // Not cumulative yet: an earlier program wrote it. Every document counts, the oldest first.
    for digest in documents(run) {
        known.learn(read(&digest, blobs).await?);
    }
    Ok(known)
}

/// Documents that the items of a run are pinned by, each once, in the order in which they came.
fn documents(run: &RunState) -> Vec<Digest> {
    let mut seen = HashSet::new();
    let of_items = run.items().filter_map(|item| run.pins_of(&item.plan.id));
    run.submitted().pins.into_iter().chain(of_items).filter(|digest| seen.insert(*digest)).collect()
}

async fn read(digest: &Digest, blobs: &dyn BlobStore) -> Result<Pins, String> {
    let bytes = blobs.get(digest, PINS_BYTES_MAX).await.map_err(|error| causes(&error))?;
    serde_json::from_slice(&bytes).map_err(|error| format!("{digest}: {error}"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use pangolin_core::{
        entry::{Entry, EntryBody},
        plan::{Plan, PlanItem},
    };
    use pangolin_ports::memory::MemoryBlobStore;
    use serde_json::{Value, json};

    use super::*;

    fn item(id: &str) -> Value {
        json!({ "id": id, "executor": "dispatch", "inputs": {}, "depends_on": [], "resourceLocks": [] })
    }

    fn entry(seq: u64, body: EntryBody) -> Entry {
        let run = pangolin_core::ids::RunId::new("r").unwrap();
        Entry { v: 1, run, seq, at: 0, actor: "app:test".to_owned(), prev: None, body }
    }

    /// An open-ended run of `a`, to which one item was added for each further document.
    fn grown(pins: &[Digest]) -> RunState {
        let plan = json!({ "id": "r", "queue": "default", "openEnded": true, "items": [item("a")] });
        let submitted = json!({
            "log": "test", "namespace": "test", "plan": Digest::of(b"plan"), "items": 1, "queue": "default",
            "pins": pins[0], "retry": pangolin_core::entry::RetryPolicy::default(), "open_ended": true,
        });
        let first = entry(0, EntryBody::RunSubmitted(serde_json::from_value(submitted).unwrap()));
        let plan: Plan = serde_json::from_value(plan).unwrap();
        let mut run = RunState::start(plan, &first).unwrap();
        for (seq, pins) in (1..).zip(&pins[1..]) {
            let added: PlanItem = serde_json::from_value(item(&format!("added-{seq}"))).unwrap();
            let body = EntryBody::RunExtended {
                cause: None,
                items: vec![added.id.clone()],
                document: Digest::of(b"items"),
                explanation: String::new(),
                plugin: None,
                supersedes: BTreeMap::new(),
                pins: Some(*pins),
            };
            run.apply(&entry(seq, body), Some(vec![added])).unwrap();
        }
        run
    }

    fn named(name: &str, meaning: &str) -> Value {
        json!({ "name": name, "digest": Digest::of(meaning.as_bytes()) })
    }

    /// As programs before version 1 wrote them: components only in the sets, references not cumulative.
    fn earlier(adapter: &str, block: &str, references: &Value) -> Value {
        let fingerprint = Digest::of(b"grant");
        let block =
            json!({ "name": "block", "digest": Digest::of(block.as_bytes()), "fingerprint": fingerprint });
        json!({
            "sets": [{ "subagent": named("s", "s"), "capabilities": [], "env": [],
                       "adapter": named("adapter", adapter), "blocks": [block] }],
            "items": {}, "references": { "subagent": references },
        })
    }

    async fn known(documents: &[Value]) -> Result<Known, String> {
        let blobs = MemoryBlobStore::new();
        let mut digests = Vec::new();
        for document in documents {
            digests.push(blobs.put(document.to_string().as_bytes()).await.unwrap());
        }
        of_run(&grown(&digests), &blobs).await
    }

    fn digest_of(known: &Known, reference: &str) -> Option<Digest> {
        known.reference("subagent", reference).map(|found| found.digest)
    }

    #[tokio::test]
    async fn the_first_meaning_wins_over_all_documents_of_earlier_programs() {
        let documents = [
            earlier("adapter 1", "block 1", &json!({ "a": named("a", "a 1") })),
            earlier("adapter 2", "block 2", &json!({ "a": named("a", "a 2"), "b": named("b", "b 2") })),
            earlier("adapter 3", "block 3", &json!({ "b": named("b", "b 3"), "c": named("c", "c 3") })),
        ];
        let known = known(&documents).await.unwrap();
        assert_eq!(known.adapters["adapter"], Digest::of(b"adapter 1"));
        assert_eq!(known.blocks["block"].digest, Digest::of(b"block 1"));
        for (name, meaning) in [("a", "a 1"), ("b", "b 2"), ("c", "c 3")] {
            assert_eq!(digest_of(&known, name), Some(Digest::of(meaning.as_bytes())), "{name}");
        }
    }

    #[tokio::test]
    async fn the_newest_document_is_enough_when_it_is_cumulative() {
        let mut newest = earlier("adapter 1", "block 1", &json!({ "a": named("a", "a 1") }));
        newest["v"] = json!(1);
        newest["adapters"] = json!({ "adapter": Digest::of(b"adapter 1") });
        let before = json!("not read at all");
        let known = known(&[before.clone(), newest]).await.unwrap();
        assert_eq!(known.adapters["adapter"], Digest::of(b"adapter 1"));
        assert_eq!(digest_of(&known, "a"), Some(Digest::of(b"a 1")));
        assert!(super::tests::known(&[before]).await.unwrap_err().starts_with("sha256:"));
    }
}
