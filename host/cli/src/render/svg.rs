//! A drawing for people, laid out by `layout-rs`.

use layout::{
    backends::svg::SVGWriter,
    core::{
        base::Orientation,
        color::Color,
        geometry::Point,
        style::{LineStyleKind, StyleAttr},
    },
    std_shapes::{
        render::get_shape_size,
        shapes::{Arrow, Element, LineEndKind, ShapeKind},
    },
    topo::layout::VisualGraph,
};

use super::{Graph, Node};

/// Most boxes in a drawing; the layout takes seconds beyond that and nobody can read it.
pub(crate) const NODES_MAX: usize = 300;

const FONT: usize = 14;

/// An SVG document.
pub(crate) fn svg(graph: &Graph) -> String {
    let mut drawing = VisualGraph::new(Orientation::LeftToRight);
    let handles: Vec<_> = graph.nodes.iter().map(|node| drawing.add_node(element(node))).collect();
    for edge in &graph.edges {
        let (style, colour, width) = match (edge.possible, edge.hands_over) {
            (true, _) => (LineStyleKind::Dashed, "gray", 1),
            (false, true) => (LineStyleKind::Normal, "black", 2),
            (false, false) => (LineStyleKind::Normal, "black", 1),
        };
        let look = StyleAttr::new(Color::fast(colour), width, None, 0, FONT);
        let arrow = Arrow::new(LineEndKind::None, LineEndKind::Arrow, style, "", &look, &None, &None);
        drawing.add_edge(arrow, handles[edge.from], handles[edge.to]);
    }
    let mut writer = SVGWriter::new();
    drawing.do_it(false, false, false, &mut writer);
    // Readable in front of a dark page too.
    writer.finalize().replacen("<defs>", "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n<defs>", 1)
}

fn element(node: &Node) -> Element {
    let label = if node.possible { format!("{} ?", node.id) } else { node.id.clone() };
    let (line, fill, rounded) = match (node.possible, node.role) {
        (true, _) => ("gray", "whitesmoke", 12),
        (false, Some(_)) => ("black", "lightyellow", 0),
        (false, None) => ("black", "white", 0),
    };
    let look = StyleAttr::new(Color::fast(line), 1, Some(Color::fast(fill)), rounded, FONT);
    let shape = ShapeKind::new_box(&label);
    let size = get_shape_size(Orientation::LeftToRight, &shape, FONT, false);
    Element::create(shape, look, Orientation::LeftToRight, Point::new(size.x, size.y))
}
