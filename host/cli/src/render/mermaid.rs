//! Mermaid flowcharts, which forges draw inside Markdown.

use super::Graph;

/// A `flowchart LR`. Node names are numbers, so that ids need no escaping beyond their label.
pub(crate) fn mermaid(graph: &Graph) -> String {
    let mut text = String::from("flowchart LR\n");
    for (index, node) in graph.nodes.iter().enumerate() {
        let label = escape(&node.id);
        let (open, close) = match (node.possible, node.role) {
            (true, _) => ("([", "])"),
            (false, Some("gate")) => ("{{", "}}"),
            (false, _) => ("[", "]"),
        };
        text.push_str(&format!("  n{index}{open}\"{label}\"{close}\n"));
    }
    for edge in &graph.edges {
        let arrow = match (edge.possible, edge.hands_over) {
            (true, _) => "-.->",
            (false, true) => "==>",
            (false, false) => "-->",
        };
        text.push_str(&format!("  n{} {arrow} n{}\n", edge.from, edge.to));
    }
    let ghosts: Vec<String> = graph
        .nodes
        .iter()
        .enumerate()
        .filter(|(_, node)| node.possible)
        .map(|(index, _)| format!("n{index}"))
        .collect();
    if !ghosts.is_empty() {
        text.push_str("  classDef possible stroke-dasharray: 4 3,color:#777,stroke:#999,fill:#fafafa\n");
        text.push_str(&format!("  class {} possible\n", ghosts.join(",")));
    }
    text
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;").replace('>', "&gt;")
}
