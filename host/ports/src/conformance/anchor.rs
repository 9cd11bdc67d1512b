//! What every [`Anchor`] must do.

use std::sync::Arc;

use async_trait::async_trait;
use pangolin_audit::{
    checkpoint::Checkpoint,
    note::{Note, SigningKey},
};
use pangolin_core::ids::Digest;

use super::{Outcome, Report, Violation, ensure};
use crate::anchor::{Anchor, AnchorError, AnchorEvidence, Guarantee, Standing};

/// Where one anchor holds things.
#[async_trait]
pub trait AnchorPlace: Send + Sync {
    /// Opens the anchor, also a second time; everything that was published before must be there.
    async fn open(&self) -> Arc<dyn Anchor>;

    /// Adds a note beside or over the one that is held, by means that only somebody above all rules has.
    async fn tamper(&self, origin: &str, size: u64, note: &str);

    /// The guarantee of a checkpoint that was published here and left alone.
    fn guarantee(&self) -> Guarantee;
}

/// Makes an empty place.
pub type Fresh<'a> = dyn Fn() -> Box<dyn AnchorPlace> + Send + Sync + 'a;

/// Runs all checks.
pub async fn suite(fresh: &Fresh<'_>) -> Report {
    let mut report = Report::default();
    report.run("what_is_published_is_held", what_is_published_is_held(fresh)).await;
    report.run("publishing_again_changes_nothing", publishing_again_changes_nothing(fresh)).await;
    report.run("a_fork_is_refused", a_fork_is_refused(fresh)).await;
    report.run("one_of_two_roots_wins", one_of_two_roots_wins(fresh)).await;
    report.run("only_checkpoints_are_published", only_checkpoints_are_published(fresh)).await;
    report.run("logs_are_apart", logs_are_apart(fresh)).await;
    report.run("sizes_come_in_order", sizes_come_in_order(fresh)).await;
    report.run("only_given_keys_count", only_given_keys_count(fresh)).await;
    report.run("tampering_is_contested", tampering_is_contested(fresh)).await;
    report.run("evidence_is_json", evidence_is_json(fresh)).await;
    report
}

const ORIGIN: &str = "pangolin.example/a";

fn key(origin: &str, seed: u8) -> Result<SigningKey, Violation> {
    Ok(SigningKey::from_seed(origin, &[seed; 32])?)
}

fn signed(origin: &str, size: u64, root: &str) -> Result<Note, Violation> {
    let checkpoint = Checkpoint { origin: origin.to_owned(), size, root: Digest::of(root.as_bytes()) };
    Ok(checkpoint.sign(&key(origin, 7)?)?)
}

fn note(size: u64, root: &str) -> Result<String, Violation> {
    Ok(signed(ORIGIN, size, root)?.to_string())
}

async fn examined(anchor: &dyn Anchor, size: u64) -> Result<AnchorEvidence, Violation> {
    Ok(anchor.examine(ORIGIN, size, &[key(ORIGIN, 7)?.verifier_key()]).await?)
}

async fn what_is_published_is_held(fresh: &Fresh<'_>) -> Outcome {
    let place = fresh();
    let anchor = place.open().await;
    let absent = examined(&*anchor, 3).await?;
    ensure!(absent.standing == Standing::Absent && absent.note.is_none(), "an empty anchor says {absent:?}");
    ensure!(absent.guarantee == Guarantee::Detect, "nothing is guaranteed as {}", absent.guarantee);
    let text = note(3, "r")?;
    let published = anchor.publish(&text).await?;
    ensure!(published.created, "a new checkpoint is said to have been there");
    ensure!(!published.locator.is_empty(), "the place has no name");
    for anchor in [anchor, place.open().await] {
        let evidence = examined(&*anchor, 3).await?;
        ensure!(evidence.standing == Standing::Held, "a published checkpoint is {evidence:?}");
        ensure!(evidence.note.as_ref() == Some(&text), "the note held is {:?}", evidence.note);
        ensure!(evidence.anchor_id == anchor.id(), "the evidence is of {:?}", evidence.anchor_id);
        ensure!(evidence.locator == published.locator, "it is at {:?}", evidence.locator);
        ensure!(
            (&*evidence.origin, evidence.size) == (ORIGIN, 3),
            "the evidence is about another checkpoint"
        );
        ensure!(evidence.findings.is_empty(), "held, and yet {:?}", evidence.findings);
        ensure!(evidence.guarantee == place.guarantee(), "the guarantee is {}", evidence.guarantee);
        let external = evidence.guarantee == Guarantee::ExternalImmutable;
        ensure!(
            (evidence.claim().as_str() == "tamper-evident") == external,
            "it claims {:?}",
            evidence.claim()
        );
        let until = evidence.retention.as_ref().map(|retention| retention.until_ms);
        ensure!(!external || until > Some(evidence.checked_at_ms), "immutable, but held until {until:?}");
    }
    Ok(())
}

async fn publishing_again_changes_nothing(fresh: &Fresh<'_>) -> Outcome {
    let place = fresh();
    let anchor = place.open().await;
    let text = note(3, "r")?;
    let first = anchor.publish(&text).await?;
    // The same text with one more signature, as in a rotation of keys.
    let mut rotated = signed(ORIGIN, 3, "r")?;
    rotated.add_signature(&key(ORIGIN, 8)?);
    for again in [text.clone(), rotated.to_string()] {
        for anchor in [Arc::clone(&anchor), place.open().await] {
            let published = anchor.publish(&again).await?;
            ensure!(!published.created, "a checkpoint was published twice");
            ensure!(published.locator == first.locator, "it moved to {}", published.locator);
        }
    }
    let evidence = examined(&*anchor, 3).await?;
    ensure!(evidence.standing == Standing::Held, "after publishing again it is {evidence:?}");
    ensure!(evidence.note == Some(text), "the first note did not stay");
    Ok(())
}

async fn a_fork_is_refused(fresh: &Fresh<'_>) -> Outcome {
    let place = fresh();
    let anchor = place.open().await;
    let text = note(3, "r")?;
    anchor.publish(&text).await?;
    for anchor in [Arc::clone(&anchor), place.open().await] {
        let forked = anchor.publish(&note(3, "other")?).await;
        let named = matches!(&forked, Err(AnchorError::Fork { origin, size: 3, held, .. }) if origin == ORIGIN && *held == text);
        ensure!(named, "another root of the same size was answered {forked:?}");
    }
    let evidence = examined(&*anchor, 3).await?;
    ensure!(evidence.standing == Standing::Held, "a refused fork left {evidence:?}");
    anchor.publish(&note(4, "r4")?).await?;
    Ok(())
}

async fn one_of_two_roots_wins(fresh: &Fresh<'_>) -> Outcome {
    const PUBLISHERS: usize = 12;
    let place = fresh();
    for round in 1..=5_u64 {
        let start = Arc::new(tokio::sync::Barrier::new(PUBLISHERS));
        let mut tasks = tokio::task::JoinSet::new();
        for publisher in 0..PUBLISHERS {
            let (anchor, start) = (place.open().await, Arc::clone(&start));
            let text = note(round, if publisher % 2 == 0 { "even" } else { "odd" })?;
            tasks.spawn(async move {
                start.wait().await;
                (anchor.publish(&text).await, text)
            });
        }
        let (mut created, mut accepted) = (0, Vec::new());
        while let Some(answer) = tasks.join_next().await {
            match answer? {
                (Ok(published), text) => {
                    created += usize::from(published.created);
                    accepted.push(text);
                }
                (Err(AnchorError::Fork { .. }), _) => {}
                (Err(error), _) => return Err(error.into()),
            }
        }
        ensure!(created == 1, "round {round}: {created} publishers made the checkpoint");
        accepted.dedup();
        ensure!(accepted.len() == 1, "round {round}: both roots were accepted");
        let evidence = examined(&*place.open().await, round).await?;
        ensure!(evidence.standing == Standing::Held, "round {round}: after the race it is {evidence:?}");
        ensure!(
            evidence.note.as_ref() == accepted.first(),
            "round {round}: the note held is not the winner's"
        );
    }
    Ok(())
}

async fn only_checkpoints_are_published(fresh: &Fresh<'_>) -> Outcome {
    let anchor = fresh().open().await;
    let unsigned = Checkpoint { origin: ORIGIN.to_owned(), size: 1, root: Digest::of(b"r") }.to_string();
    let other = key(ORIGIN, 7)?.sign("not a checkpoint\n")?.to_string();
    for text in ["", "text", &unsigned, &other] {
        let answer = anchor.publish(text).await;
        ensure!(matches!(answer, Err(AnchorError::BadNote(_))), "{text:?} was answered {answer:?}");
    }
    let sizes = anchor.sizes(ORIGIN, 0, 10).await?;
    ensure!(sizes.is_empty(), "refused notes left {sizes:?}");
    Ok(())
}

async fn logs_are_apart(fresh: &Fresh<'_>) -> Outcome {
    let place = fresh();
    let anchor = place.open().await;
    let other = "pangolin.example/a/run/r-1";
    anchor.publish(&note(3, "r")?).await?;
    anchor.publish(&signed(other, 3, "another root")?.to_string()).await?;
    anchor.publish(&signed(other, 5, "five")?.to_string()).await?;
    ensure!(anchor.sizes(ORIGIN, 0, 10).await? == [3], "one log has the sizes of another");
    ensure!(anchor.sizes(other, 0, 10).await? == [3, 5], "a log lost a size");
    let evidence = examined(&*anchor, 3).await?;
    ensure!(evidence.standing == Standing::Held, "beside another log it is {evidence:?}");
    ensure!(examined(&*anchor, 5).await?.standing == Standing::Absent, "the other log's checkpoint is shown");
    Ok(())
}

async fn sizes_come_in_order(fresh: &Fresh<'_>) -> Outcome {
    let anchor = fresh().open().await;
    // Not in order, and of different length.
    for size in [900, 7, 1_000_000_000_000, 80, 9_007_199_254_740_991] {
        anchor.publish(&note(size, "r")?).await?;
    }
    let all = anchor.sizes(ORIGIN, 0, 10).await?;
    ensure!(all == [7, 80, 900, 1_000_000_000_000, 9_007_199_254_740_991], "sizes come as {all:?}");
    ensure!(anchor.sizes(ORIGIN, 80, 2).await? == [80, 900], "`from` or `limit` is not kept");
    ensure!(anchor.sizes(ORIGIN, 81, 1).await? == [900], "`from` is not kept");
    ensure!(anchor.sizes(ORIGIN, 0, 0).await?.is_empty(), "a limit of 0 gives sizes");
    Ok(())
}

async fn only_given_keys_count(fresh: &Fresh<'_>) -> Outcome {
    let anchor = fresh().open().await;
    anchor.publish(&note(3, "r")?).await?;
    for keys in [vec![], vec![key(ORIGIN, 9)?.verifier_key()]] {
        let evidence = anchor.examine(ORIGIN, 3, &keys).await?;
        ensure!(evidence.standing == Standing::Contested, "a signature of no given key counts: {evidence:?}");
        ensure!(evidence.guarantee == Guarantee::Detect, "it is guaranteed as {}", evidence.guarantee);
        ensure!(!evidence.findings.is_empty(), "nothing says why");
    }
    Ok(())
}

async fn tampering_is_contested(fresh: &Fresh<'_>) -> Outcome {
    let place = fresh();
    let anchor = place.open().await;
    for (size, second) in [(3, note(3, "other")?), (4, note(4, "r")?), (5, "garbage".to_owned())] {
        anchor.publish(&note(size, "r")?).await?;
        place.tamper(ORIGIN, size, &second).await;
        let evidence = examined(&*anchor, size).await?;
        ensure!(evidence.standing == Standing::Contested, "with a second version it is {evidence:?}");
        ensure!(evidence.guarantee == Guarantee::Detect, "contested, and yet {}", evidence.guarantee);
        ensure!(!evidence.findings.is_empty(), "nothing says why it is contested");
        ensure!(evidence.claim().as_str() == "tamper-detecting", "contested, and yet {:?}", evidence.claim());
    }
    // Planted where nothing was published.
    for (size, planted) in [(6, note(7, "r")?), (8, "garbage".to_owned())] {
        place.tamper(ORIGIN, size, &planted).await;
        let evidence = examined(&*anchor, size).await?;
        ensure!(evidence.standing == Standing::Contested, "a planted {planted:?} is {evidence:?}");
    }
    Ok(())
}

async fn evidence_is_json(fresh: &Fresh<'_>) -> Outcome {
    let anchor = fresh().open().await;
    anchor.publish(&note(3, "r")?).await?;
    for size in [2, 3] {
        let evidence = examined(&*anchor, size).await?;
        let text = serde_json::to_string(&evidence)?;
        ensure!(
            serde_json::from_str::<AnchorEvidence>(&text)? == evidence,
            "evidence came back different: {text}"
        );
        ensure!(!text.contains("null"), "absent members are written: {text}");
    }
    Ok(())
}
