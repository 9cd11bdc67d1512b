//! Graphviz DOT, for graphs of any size and every other tool.

use super::Graph;

/// A `digraph`.
pub(crate) fn dot(graph: &Graph) -> String {
    let mut text = format!("digraph {} {{\n  rankdir=LR;\n  node [shape=box];\n", quote(&graph.run));
    for (index, node) in graph.nodes.iter().enumerate() {
        let style = match (node.possible, node.role) {
            (true, _) => format!(", style=\"dashed,rounded\", color=gray, tooltip={}", quote(&node.why)),
            (false, Some("gate")) => ", shape=hexagon".to_owned(),
            (false, _) => String::new(),
        };
        text.push_str(&format!("  n{index} [label={}{style}];\n", quote(&node.id)));
    }
    for edge in &graph.edges {
        let style = match (edge.possible, edge.hands_over) {
            (true, _) => " [style=dashed, color=gray]",
            (false, true) => " [penwidth=2]",
            (false, false) => "",
        };
        text.push_str(&format!("  n{} -> n{}{style};\n", edge.from, edge.to));
    }
    text.push_str("}\n");
    text
}

fn quote(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
