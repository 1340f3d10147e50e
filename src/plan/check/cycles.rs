//! Resources that wait for each other would never begin.

use std::collections::{BTreeMap, BTreeSet};

use crate::plan::{
    decode::Value,
    diagnostic::{Code, Diagnostic},
    model::Model,
    problems::MAX_PROBLEMS,
    quote::quoted,
};

/// A longer cycle is shown by its beginning.
const SHOWN_NAMES: usize = 12;

pub(super) fn check(model: &Model, problems: &mut Vec<Diagnostic>) {
    let mut graph: BTreeMap<&str, &[Value<String>]> = BTreeMap::new();
    for resource in &model.resources {
        if let Some(name) = &resource.name {
            graph.entry(&name.value).or_insert(&resource.after);
        }
    }
    let mut settled = BTreeSet::new();
    for name in model
        .resources
        .iter()
        .filter_map(|resource| resource.name.as_ref())
    {
        for cycle in walk(&name.value, &graph, &mut settled) {
            problems.push(cycle_problem(&cycle));
        }
    }
}

/// Walks from `start` and returns the edges of each cycle that is closed on the way.
///
/// Keeps its own stack: a plan may chain ten thousand resources.
fn walk<'m>(
    start: &'m str,
    graph: &BTreeMap<&'m str, &'m [Value<String>]>,
    settled: &mut BTreeSet<&'m str>,
) -> Vec<Vec<&'m Value<String>>> {
    let mut path: Vec<(&str, usize)> = vec![(start, 0)];
    let mut edges: Vec<&Value<String>> = Vec::new();
    let mut on_path = BTreeSet::from([start]);
    let mut found = Vec::new();
    while let Some((name, next)) = path.last_mut() {
        let edge = graph.get(name).and_then(|after| after.get(*next));
        *next += 1;
        match edge {
            _ if settled.contains(name) => {
                path.pop();
                edges.pop();
            }
            None => {
                settled.insert(name);
                on_path.remove(name);
                path.pop();
                edges.pop();
            }
            Some(edge) if on_path.contains(edge.value.as_str()) => {
                if found.len() < MAX_PROBLEMS {
                    let begin = path
                        .iter()
                        .position(|(name, _)| *name == edge.value)
                        .unwrap_or(0);
                    let cycle = edges[begin..].iter().copied().chain([edge]);
                    found.push(cycle.collect());
                }
            }
            Some(edge) if !settled.contains(edge.value.as_str()) => {
                edges.push(edge);
                on_path.insert(&edge.value);
                path.push((&edge.value, 0));
            }
            Some(_) => {}
        }
    }
    found
}

fn cycle_problem(edges: &[&Value<String>]) -> Diagnostic {
    let names: Vec<String> = edges
        .last()
        .into_iter()
        .chain(edges)
        .map(|edge| quoted(&edge.typed))
        .collect();
    let shown = names.len().min(SHOWN_NAMES);
    let more = if names.len() > SHOWN_NAMES {
        " -> ..."
    } else {
        ""
    };
    let message = if names.len() == 2 {
        format!("the resource {} waits for itself", names[0])
    } else {
        let chain = names[..shown].join(" -> ");
        format!("resources wait for each other: {chain}{more}")
    };
    edges
        .iter()
        .take(SHOWN_NAMES)
        .fold(Diagnostic::new(Code::Cycle, message), |problem, edge| {
            problem.at(edge.span, "waits")
        })
        .help("remove one of these names from its `after`")
}
