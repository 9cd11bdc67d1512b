//! What follows from the end of a subject and of its reviewers.

use pangolin_pattern_sdk::{
    Decisions, Fault, Item, ItemSpec, Phase, Run, bad_config, copy_id, fault, fix_id, generation,
};

use crate::{
    config::{self, OnReject, QuorumConfig},
    ids,
};

/// The output in which a reviewer says what is to be fixed.
const FINDINGS: &str = "findings";

/// How the vote on a subject stands.
enum Tally {
    /// Reviewers are open or not there yet.
    Open,
    /// Somebody cancelled this one.
    Cancelled(String),
    /// All have ended.
    Counted {
        /// Positions of those who approve.
        approved: Vec<usize>,
        /// Positions of the others, each with its reason.
        others: Vec<(usize, String)>,
    },
}

pub(crate) fn follow(
    run: &Run<'_>,
    subject: &Item<'_>,
    config: &QuorumConfig,
    out: &Decisions<'_>,
) -> Result<(), Fault> {
    let id = subject.id();
    match subject.phase() {
        Phase::Waiting | Phase::Active => return Ok(()),
        Phase::Unsuccessful => {
            out.explain(&ids::commit(&id), &format!("not added: {id} is {}", subject.ending()));
            return Ok(());
        }
        Phase::Succeeded => {}
    }
    let work = work(run, subject);
    if run.find(&ids::reviewer(&id, 0)).is_none() {
        for (position, template) in config.reviewers.iter().enumerate() {
            let spec = ItemSpec::from_template(&ids::reviewer(&id, position), template);
            out.spawn(&on_work(spec, &id, work.as_deref()))?;
        }
        let why =
            format!("{} reviewers look at {id}; {} must approve", config.reviewers.len(), config.threshold);
        out.explain(&ids::reviewer(&id, 0), &why);
        return Ok(());
    }
    match tally(run, &id, config) {
        Tally::Open => Ok(()),
        Tally::Cancelled(reviewer) => {
            out.explain(&ids::commit(&id), &format!("not added: {reviewer} was cancelled"));
            Ok(())
        }
        Tally::Counted { approved, .. } if approved.len() >= config.threshold as usize => {
            let commit = ids::commit(&id);
            if run.find(&commit).is_none() {
                let mut spec = ItemSpec::from_template(&commit, &config.commit);
                for position in &approved {
                    spec = spec.depend_on(&ids::reviewer(&id, *position));
                }
                out.spawn(&on_work(spec, &id, work.as_deref()))?;
                out.explain(
                    &commit,
                    &format!("{}: {} were needed", approvals(approved.len(), config), config.threshold),
                );
                let failed = failed_reviewers(run, &id, config);
                if !failed.is_empty() {
                    let enough = approvals(approved.len(), config);
                    out.tolerate(&failed, &format!("{enough} without it; {} were needed", config.threshold))?;
                }
            }
            Ok(())
        }
        Tally::Counted { approved, others } => {
            let rejected = rejection(approved.len(), &others, config);
            let end = match (next_round(&id, config), stopped(run, &id)) {
                (None, _) => no_fix(config),
                (Some(_), Some(member)) => format!("No fix: {member} was cancelled"),
                (Some(round), None) => {
                    return add_round(run, subject, config, round, work.as_deref(), &others, &rejected, out);
                }
            };
            out.explain(&ids::commit(&id), &format!("not added: {rejected}. {end}"));
            Ok(())
        }
    }
}

/// Why work was rejected.
fn rejection(approved: usize, others: &[(usize, String)], config: &QuorumConfig) -> String {
    let reasons: Vec<&str> = others.iter().map(|other| &*other.1).collect();
    format!("{}, {} are needed: {}", approvals(approved, config), config.threshold, reasons.join("; "))
}

/// Why no fix follows.
fn no_fix(config: &QuorumConfig) -> String {
    match config.on_reject {
        OnReject::Block => "No fix: onReject is \"block\"".to_owned(),
        OnReject::SpawnFix => format!("No fix: {} of {0} rounds were tried", config.rounds_max),
    }
}

/// When everything has ended: work that was rejected for good must not look like a success.
///
/// # Errors
/// A fault `rejected` that names every such work.
pub(crate) fn conclude(run: &Run<'_>) -> Result<(), Fault> {
    let mut findings = Vec::new();
    let mut rejected = Vec::new();
    for brief in run.items().filter(pangolin_pattern_sdk::ItemBrief::succeeded) {
        let item = run.expect(brief.index)?;
        let Some(config) = config::of(&item, &mut findings) else { continue };
        let (base, number) = generation(&brief.id);
        if run.find(&copy_id(base, number + 1)).is_some() {
            continue;
        }
        if let Tally::Counted { approved, others } = tally(run, &brief.id, &config)
            && approved.len() < config.threshold as usize
            && stopped(run, &brief.id).is_none()
        {
            let why = rejection(approved.len(), &others, &config);
            rejected.push(format!("the work of {} is rejected: {why}. {}", brief.id, no_fix(&config)));
        }
    }
    if !findings.is_empty() {
        return Err(bad_config(&findings));
    }
    if rejected.is_empty() {
        return Ok(());
    }
    Err(fault("rejected", rejected.join(". ")))
}

fn approvals(count: usize, config: &QuorumConfig) -> String {
    format!("{count} of {} reviewers approved", config.reviewers.len())
}

fn tally(run: &Run<'_>, id: &str, config: &QuorumConfig) -> Tally {
    let (mut approved, mut others) = (Vec::new(), Vec::new());
    for position in 0..config.reviewers.len() {
        let name = ids::reviewer(id, position);
        let Some(item) = run.get(&name) else { return Tally::Open };
        match item.phase() {
            Phase::Waiting | Phase::Active => return Tally::Open,
            Phase::Unsuccessful if item.state() == "cancelled" => return Tally::Cancelled(name),
            Phase::Unsuccessful => others.push((position, format!("{name} {}", item.ending()))),
            // Who gives no verdict does not approve.
            Phase::Succeeded => match item.verify_passed() {
                Some(true) => approved.push(position),
                Some(false) => others.push((position, format!("{name} rejects it"))),
                None => others.push((position, format!("{name} gave no verdict"))),
            },
        }
    }
    Tally::Counted { approved, others }
}

/// Reviewers of this vote and of earlier ones on the same work that ended without success. There is none that somebody
/// cancelled in this vote; one of an earlier vote stopped the rounds.
fn failed_reviewers(run: &Run<'_>, id: &str, config: &QuorumConfig) -> Vec<String> {
    let (base, number) = generation(id);
    let subjects = (1..=number).map(|number| copy_id(base, number));
    let reviewers = subjects.flat_map(|subject| {
        (0..config.reviewers.len()).map(move |position| ids::reviewer(&subject, position))
    });
    reviewers
        .filter(|reviewer| run.get(reviewer).is_some_and(|item| item.phase() == Phase::Unsuccessful))
        .collect()
}

/// Number of the fix that may follow, from 1.
fn next_round(id: &str, config: &QuorumConfig) -> Option<u32> {
    let round = generation(id).1;
    let may = config.on_reject == OnReject::SpawnFix && config.fix.is_some() && round <= config.rounds_max;
    may.then_some(round)
}

/// A member of the lineage that somebody cancelled.
fn stopped(run: &Run<'_>, id: &str) -> Option<String> {
    let (base, number) = generation(id);
    let fixes = (1..number).map(|round| fix_id(base, round));
    let subjects = (1..=number).map(|number| copy_id(base, number));
    let is_cancelled = |id: &String| {
        run.get(id).is_some_and(|item| item.phase() == Phase::Unsuccessful && item.state() == "cancelled")
    };
    fixes.chain(subjects).find(is_cancelled)
}

/// Whose patch is the newest work: the subject's own, or when a copy of it changed nothing more, its fix's.
fn work(run: &Run<'_>, subject: &Item<'_>) -> Option<String> {
    let id = subject.id();
    if subject.has_patch() {
        return Some(id);
    }
    let (base, number) = generation(&id);
    (1..number).rev().flat_map(|round| [fix_id(base, round), copy_id(base, round)]).find(|earlier| {
        run.get(earlier).is_some_and(|item| item.phase() == Phase::Succeeded && item.has_patch())
    })
}

/// Waits for the subject and gets the newest work, when there is any.
fn on_work(spec: ItemSpec, subject: &str, work: Option<&str>) -> ItemSpec {
    let spec = spec.depend_on(subject);
    match work {
        Some(work) => spec.need_patch("work", work),
        None => spec,
    }
}

#[expect(clippy::too_many_arguments, reason = "what a round is made of")]
fn add_round(
    run: &Run<'_>,
    subject: &Item<'_>,
    config: &QuorumConfig,
    round: u32,
    work: Option<&str>,
    others: &[(usize, String)],
    rejected: &str,
    out: &Decisions<'_>,
) -> Result<(), Fault> {
    let id = subject.id();
    let base = generation(&id).0;
    let (fix, again) = (fix_id(base, round), copy_id(base, round + 1));
    let (Some(template), None) = (&config.fix, run.find(&again)) else { return Ok(()) };
    let mut spec = on_work(ItemSpec::from_template(&fix, template), &id, work);
    let mut reasons = Vec::new();
    for (position, reason) in others {
        let reviewer = ids::reviewer(&id, *position);
        let says = run
            .get(&reviewer)
            .is_some_and(|item| item.phase() == Phase::Succeeded && item.has_output(FINDINGS));
        if says {
            spec = spec.need_output(&format!("{FINDINGS}-{position}"), &reviewer, FINDINGS);
        } else {
            reasons.push(reason.as_str());
        }
    }
    if !reasons.is_empty() {
        spec = spec.tell("gateReason", reasons.join("; "));
    }
    out.spawn(&spec)?;
    out.explain(&fix, &format!("{rejected}; fix {round} of {}", config.rounds_max));

    // The work again: the same item behind the fix, with the fix as its work, and the same vote on it.
    let earlier = (round > 1).then(|| fix_id(base, round - 1));
    let edge = |to: &str| Some(if Some(to) == earlier.as_deref() { fix.clone() } else { to.to_owned() });
    let copy = ItemSpec::copy_of(subject, &again, edge)?.depend_on(&fix).need_patch("work", &fix);
    out.spawn(&copy)?;
    out.explain(&again, &format!("{base} again, on the work of {fix}, for another vote"));
    Ok(())
}
