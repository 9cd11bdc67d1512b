//! At submit: the checks and the drawing.

use pangolin_pattern_sdk::{Decisions, Fault, Finding, Run, copy_id, fix_id, generation, id_problem};

use crate::{
    config::{self, OnReject, QuorumConfig},
    ids,
};

/// Most possible items that are drawn.
const POSSIBLE_MAX: usize = 1_000;

pub(crate) fn plan(run: &Run<'_>, out: &Decisions<'_>) -> Result<(), Fault> {
    let mut findings = Vec::new();
    let mut subjects = Vec::new();
    let mut is_there = false;
    for brief in run.items() {
        let item = run.expect(brief.index)?;
        is_there |= item.has_input(config::KEY);
        if let Some(config) = config::of(&item, &mut findings) {
            subjects.push((brief, config));
        }
    }
    for (brief, config) in &subjects {
        let pointer = format!("/items/{}/id", brief.index);
        if generation(&brief.id).1 > 1 {
            let message = format!("{} ends like the id of a copy that this pattern adds", brief.id);
            findings.push(Finding::new(
                &*pointer,
                message,
                "choose an id that does not end in ~ and a number",
            ));
        }
        for id in added(&brief.id, config) {
            if let Some(taken) = run.find(&id) {
                let message = format!("{id} is the id of an item that the vote on {} adds", brief.id);
                findings.push(Finding::new(format!("/items/{taken}/id"), message, "choose another id"));
            } else if let Some(problem) = id_problem(&id) {
                let message = format!("ids of the vote on {}: {problem}", brief.id);
                findings.push(Finding::new(&*pointer, message, "choose a shorter id"));
                break;
            }
        }
    }
    if !findings.is_empty() {
        findings.iter().for_each(|finding| out.finding(finding));
        return Ok(());
    }
    if !is_there && !run.is_open_ended() {
        out.close();
    }
    let mut drawn = 0;
    for (brief, config) in &subjects {
        drawn += (config.reviewers.len() + 3) * (1 + rounds(config) as usize);
        if drawn > POSSIBLE_MAX {
            out.possible("more", &[], "there are more possible votes than are drawn");
            break;
        }
        draw(&brief.id, config, out);
    }
    Ok(())
}

/// Rounds of fixes that may follow.
fn rounds(config: &QuorumConfig) -> u32 {
    if config.on_reject == OnReject::SpawnFix { config.rounds_max } else { 0 }
}

/// Every id that may be added for a subject.
fn added(id: &str, config: &QuorumConfig) -> Vec<String> {
    let mut all = Vec::new();
    for round in 0..=rounds(config) {
        let subject = copy_id(id, round + 1);
        if round > 0 {
            all.push(fix_id(id, round));
            all.push(subject.clone());
        }
        all.extend((0..config.reviewers.len()).map(|position| ids::reviewer(&subject, position)));
        all.push(ids::commit(&subject));
    }
    all
}

fn draw(id: &str, config: &QuorumConfig, out: &Decisions<'_>) {
    let number = config.reviewers.len();
    for round in 0..=rounds(config) {
        let subject = copy_id(id, round + 1);
        if round > 0 {
            let (fix, before) = (fix_id(id, round), copy_id(id, round));
            let votes: Vec<String> = (0..number).map(|position| ids::reviewer(&before, position)).collect();
            out.possible(
                &fix,
                &votes,
                &format!("if fewer than {} of {number} approve {before}", config.threshold),
            );
            out.possible(&subject, &[fix], "the work again, for another vote");
        }
        let votes: Vec<String> = (0..number).map(|position| ids::reviewer(&subject, position)).collect();
        for vote in &votes {
            out.possible(vote, std::slice::from_ref(&subject), "looks at the work");
        }
        let why = format!("if {} of {number} approve", config.threshold);
        out.possible(&ids::commit(&subject), &votes, &why);
    }
}
