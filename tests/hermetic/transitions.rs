//! Every (state, event) pair of every machine: a changed cell is a change of the design.

use std::fmt::Write;

use rekindle::machine::{
    ChunkEvent, ChunkState, PartitionEvent, PartitionState, ResourceEvent, ResourceState, RunEvent,
    RunState, StepEvent, StepState,
};

/// Renders one table: a row for each event, a column for each state; `·` where the event cannot happen.
fn table(states: &[String], rows: &[(String, Vec<Option<String>>)]) -> String {
    let mut text = format!("| event \\ state | {} |\n", states.join(" | "));
    let _ = writeln!(text, "|---|{}", "---|".repeat(states.len()));
    for (event, cells) in rows {
        let cells: Vec<&str> = cells
            .iter()
            .map(|cell| cell.as_deref().unwrap_or("·"))
            .collect();
        let _ = writeln!(text, "| {event} | {} |", cells.join(" | "));
    }
    text
}

#[test]
fn runs_move_as_designed() {
    let states: Vec<String> = RunState::SAMPLES.iter().map(|state| run(*state)).collect();
    let rows: Vec<_> = RunEvent::ALL
        .iter()
        .map(|event| {
            let cells = RunState::SAMPLES
                .iter()
                .map(|state| state.apply(*event).ok().map(run))
                .collect();
            (event.label().to_owned(), cells)
        })
        .collect();
    insta::assert_snapshot!("run", table(&states, &rows));
}

fn run(state: RunState) -> String {
    match state {
        RunState::Interrupted(phase) | RunState::Failed(phase) => {
            let phase = serde_json::to_value(phase).unwrap();
            format!("{} in {}", state.label(), phase.as_str().unwrap())
        }
        _ => state.label().to_owned(),
    }
}

#[test]
fn resources_move_as_designed() {
    let samples = ResourceState::samples();
    let states: Vec<String> = samples.iter().map(resource).collect();
    let rows: Vec<_> = ResourceEvent::samples()
        .iter()
        .map(|event| {
            let cells = samples
                .iter()
                .map(|state| state.apply(event).ok().map(|next| resource(&next)))
                .collect();
            (event.label().to_owned(), cells)
        })
        .collect();
    insta::assert_snapshot!("resource", table(&states, &rows));
}

fn resource(state: &ResourceState) -> String {
    match state {
        ResourceState::Blocked { from, .. } => {
            format!("{} in {}", state.label(), from.label())
        }
        _ => state.label().to_owned(),
    }
}

#[test]
fn partitions_move_as_designed() {
    let samples = PartitionState::samples();
    let states: Vec<String> = samples.iter().map(partition).collect();
    let rows: Vec<_> = PartitionEvent::samples()
        .iter()
        .map(|(name, event)| {
            let cells = samples
                .iter()
                .map(|state| state.apply(event).ok().map(|next| partition(&next)))
                .collect();
            ((*name).to_owned(), cells)
        })
        .collect();
    insta::assert_snapshot!("partition", table(&states, &rows));
}

fn partition(state: &PartitionState) -> String {
    let progress = state.progress();
    format!(
        "{} after {}, {} rows a page",
        state.label(),
        progress.chunk,
        progress.page_rows
    )
}

#[test]
fn chunks_move_as_designed() {
    let states: Vec<String> = ChunkState::ALL
        .iter()
        .map(|state| state.label().to_owned())
        .collect();
    let rows: Vec<_> = ChunkEvent::ALL
        .iter()
        .map(|event| {
            let cells = ChunkState::ALL
                .iter()
                .map(|state| state.apply(*event).ok().map(|next| next.label().to_owned()))
                .collect();
            (event.label().to_owned(), cells)
        })
        .collect();
    insta::assert_snapshot!("chunk", table(&states, &rows));
}

#[test]
fn steps_move_as_designed() {
    let states: Vec<String> = StepState::ALL
        .iter()
        .map(|state| state.label().to_owned())
        .collect();
    let rows: Vec<_> = StepEvent::samples()
        .iter()
        .map(|event| {
            let cells = StepState::ALL
                .iter()
                .map(|state| state.apply(event).ok().map(|next| next.label().to_owned()))
                .collect();
            (event.label().to_owned(), cells)
        })
        .collect();
    insta::assert_snapshot!("step", table(&states, &rows));
}
