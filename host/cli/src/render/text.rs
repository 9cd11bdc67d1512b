//! For terminals: one line per item, by level.

use super::Graph;
use crate::{format, table};

/// Longest list of sources that is shown in full.
const SOURCES_SHOWN: usize = 4;

/// A table: `●` planned, `○` possible.
pub(crate) fn text(graph: &Graph, ascii: bool) -> String {
    let (planned, ghost) = if ascii { ("*", "o") } else { ("●", "○") };
    let possible = graph.nodes.iter().filter(|node| node.possible).count();
    let count = format::count((graph.nodes.len() - possible) as u64, "item");
    let more = if possible == 0 { String::new() } else { format!(", {possible} possible") };
    let mut text =
        format!("{} on queue {}, pattern {}: {count}{more}\n\n", graph.run, graph.queue, graph.pattern);
    let mut order: Vec<usize> = (0..graph.nodes.len()).collect();
    order.sort_by_key(|node| (graph.nodes[*node].level, *node));
    let mut rows = vec![vec!["".to_owned(), "ITEM".to_owned(), "AFTER".to_owned(), "NOTE".to_owned()]];
    for index in order {
        let node = &graph.nodes[index];
        let sources: Vec<&str> = graph.sources(index).map(|source| source.id.as_str()).collect();
        let mut after = sources.iter().take(SOURCES_SHOWN).copied().collect::<Vec<_>>().join(", ");
        if sources.len() > SOURCES_SHOWN {
            after.push_str(&format!(" and {} more", sources.len() - SOURCES_SHOWN));
        }
        let mut notes: Vec<&str> = node.role.into_iter().collect();
        if node.holds {
            notes.push("holds back what follows when red");
        }
        if node.possible {
            notes.push(&node.why);
        }
        let mark = if node.possible { ghost } else { planned };
        rows.push(vec![mark.to_owned(), node.id.clone(), after, notes.join("; ")]);
    }
    text.push_str(&table::columns(&rows));
    text
}
