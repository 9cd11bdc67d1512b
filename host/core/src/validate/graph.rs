//! Dependency graphs by position: what is left when everything that can run has run, and the cycles in it.

/// Nodes that can never run because they are in or behind a cycle, ascending. `deps` gives the dependencies of a node;
/// linear in nodes and edges.
pub(crate) fn leftover<I: Iterator<Item = u32>>(nodes: usize, deps: impl Fn(u32) -> I) -> Vec<u32> {
    let count = u32::try_from(nodes).unwrap_or(u32::MAX);
    let mut unmet = vec![0_u32; nodes];
    // Dependents in one array: `starts[d]..starts[d + 1]` of `edges` are the dependents of `d`.
    let mut starts = vec![0_u32; nodes + 1];
    for node in 0..count {
        for dep in deps(node) {
            unmet[node as usize] += 1;
            starts[dep as usize + 1] += 1;
        }
    }
    for index in 0..nodes {
        starts[index + 1] += starts[index];
    }
    let mut fill = starts.clone();
    let mut edges = vec![0_u32; starts[nodes] as usize];
    for node in 0..count {
        for dep in deps(node) {
            let place = &mut fill[dep as usize];
            edges[*place as usize] = node;
            *place += 1;
        }
    }
    let mut stack: Vec<u32> = (0..count).filter(|node| unmet[*node as usize] == 0).collect();
    while let Some(node) = stack.pop() {
        let range = starts[node as usize] as usize..starts[node as usize + 1] as usize;
        for dependent in &edges[range] {
            let open = &mut unmet[*dependent as usize];
            *open -= 1;
            if *open == 0 {
                stack.push(*dependent);
            }
        }
    }
    (0..count).filter(|node| unmet[*node as usize] > 0).collect()
}

/// Disjoint cycles among `leftover`, each as the path of positions where every node depends on the next and the last
/// on the first. At least one is found whenever `leftover` is not empty.
pub(crate) fn cycles<I: Iterator<Item = u32>>(
    leftover: &[u32],
    nodes: usize,
    deps: impl Fn(u32) -> I,
) -> Vec<Vec<u32>> {
    let mut left = vec![false; nodes];
    for node in leftover {
        left[*node as usize] = true;
    }
    // 0: not seen; otherwise the number of the walk that saw it.
    let mut seen = vec![0_u32; nodes];
    let mut found = Vec::new();
    for (walk, start) in (1_u32..).zip(leftover) {
        let mut path = Vec::new();
        let mut node = *start;
        while seen[node as usize] == 0 {
            seen[node as usize] = walk;
            path.push(node);
            // Every node that is left over depends on another one that is.
            let Some(next) = deps(node).find(|dep| left[*dep as usize]) else { break };
            node = next;
        }
        if seen[node as usize] == walk
            && let Some(entry) = path.iter().position(|step| *step == node)
        {
            found.push(path.split_off(entry));
        }
    }
    found
}
