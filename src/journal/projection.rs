//! The tables that the events add up to: written with each event, compared with a replay at open, read by `status`.

use std::{collections::BTreeMap, sync::LazyLock};

use rusqlite::{Connection, Row, params_from_iter, types::Value};
use serde::{Serialize, de::DeserializeOwned};

use super::{error::Fault, letters};
use crate::{
    ids::{ChunkSeq, PartitionId, ResourceName, RunId, StepNumber},
    machine::{
        AttemptLedger, Event, FallbackEvent, HandoverScope, Ledger, PartitionLedger,
        PartitionState, Predecessors, Progress, ResourceEvent, ResourceLedger, RunLedger,
        StepLedger, Watermark,
    },
};

/// One table: its name, its columns, how many of the first ones are its key, and its order.
struct Table {
    name: &'static str,
    columns: &'static [&'static str],
    key: usize,
    order: &'static str,
    upsert: String,
    select: String,
}

static RUN: LazyLock<Table> = LazyLock::new(|| {
    Table::new(
        "run",
        &[
            "id",
            "ordinal",
            "state",
            "state_body",
            "scope",
            "opened_ms",
            "moved_ms",
            "source",
            "targets",
            "instead_of",
        ],
        (1, 1),
        "ordinal",
    )
});
static STEP: LazyLock<Table> = LazyLock::new(|| {
    Table::new(
        "step",
        &["run", "number", "place", "title", "state", "body"],
        (2, 2),
        "run, number",
    )
});
static ATTEMPT: LazyLock<Table> = LazyLock::new(|| {
    Table::new(
        "attempt",
        &[
            "run",
            "number",
            "pid",
            "host",
            "version",
            "in_flight_bytes",
            "started_ms",
            "ended",
            "ended_ms",
        ],
        (2, 2),
        "run, number",
    )
});
static RESOURCE: LazyLock<Table> = LazyLock::new(|| {
    Table::new(
        "resource",
        &[
            "run",
            "name",
            "ordinal",
            "definition",
            "state",
            "state_body",
            "columns",
            "estimated_rows",
            "voids",
            "started_ms",
            "ended_ms",
            "fallback",
        ],
        (2, 2),
        "run, ordinal",
    )
});
static PARTITION: LazyLock<Table> = LazyLock::new(|| {
    Table::new(
        "partition",
        &[
            "id",
            "run",
            "resource",
            "ordinal",
            "range",
            "state",
            "chunk",
            "after",
            "rows",
            "bytes",
            "dead_letters",
            "length",
            "page_rows",
            "moved_ms",
        ],
        (1, 4),
        "run, resource, ordinal",
    )
});

impl Table {
    /// The first `fixed` columns, the key among them, never change once the row is there: an index that names them is left
    /// alone, which is a third of what a chunk writes.
    fn new(
        name: &'static str,
        columns: &'static [&'static str],
        (key, fixed): (usize, usize),
        order: &'static str,
    ) -> Self {
        let list = columns.join(", ");
        let marks = vec!["?"; columns.len()].join(", ");
        let keys = columns[..key].join(", ");
        let sets: Vec<String> = columns[fixed..]
            .iter()
            .map(|column| format!("{column} = excluded.{column}"))
            .collect();
        Self {
            name,
            columns,
            key,
            order,
            upsert: format!(
                "INSERT INTO {name} ({list}) VALUES ({marks}) ON CONFLICT ({keys}) DO UPDATE SET {}",
                sets.join(", ")
            ),
            select: format!("SELECT {list} FROM {name} ORDER BY {order}"),
        }
    }

    fn put(&self, connection: &Connection, row: &[Value]) -> rusqlite::Result<()> {
        connection
            .prepare_cached(&self.upsert)?
            .execute(params_from_iter(row))?;
        Ok(())
    }

    /// Compares the rows on disk with `expected`, in any order.
    fn check(&self, connection: &Connection, expected: Vec<Vec<Value>>) -> Result<(), Fault> {
        let mut expected: BTreeMap<String, Vec<Value>> = expected
            .into_iter()
            .map(|row| (self.name_row(&row), row))
            .collect();
        let mut statement = connection.prepare(&self.select)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let found: Vec<Value> = (0..self.columns.len())
                .map(|index| row.get(index))
                .collect::<Result<_, _>>()?;
            let name = self.name_row(&found);
            let Some(wanted) = expected.remove(&name) else {
                return Err(Fault::table(self.name, &name, "no event made it"));
            };
            if let Some(index) = (0..wanted.len()).find(|index| wanted[*index] != found[*index]) {
                return Err(Fault::table(
                    self.name,
                    &name,
                    format!(
                        "`{}` differs from what the events add up to",
                        self.columns[index]
                    ),
                ));
            }
        }
        match expected.into_keys().next() {
            None => Ok(()),
            Some(name) => Err(Fault::table(self.name, &name, "is missing")),
        }
    }

    fn name_row(&self, row: &[Value]) -> String {
        let parts: Vec<String> = row[..self.key]
            .iter()
            .map(|value| match value {
                Value::Integer(number) => number.to_string(),
                Value::Text(text) => text.clone(),
                other => format!("({})", other.data_type()),
            })
            .collect();
        parts.join("/")
    }
}

/// Brings the tables up to date with `event`, which `ledger` already has.
pub(super) fn project(
    connection: &Connection,
    ledger: &Ledger,
    at_ms: i64,
    event: &Event,
) -> rusqlite::Result<()> {
    match event {
        Event::RunPlanned { run, .. } => {
            put_run(connection, ledger, run)?;
            put_resources(connection, ledger, run)?;
            put_steps(connection, ledger, run)?;
        }
        Event::PlanChanged { run, .. } => {
            connection.execute("DELETE FROM step WHERE run = ?1", [run.as_str()])?;
            put_steps(connection, ledger, run)?;
            connection.execute("DELETE FROM partition WHERE run = ?1", [run.as_str()])?;
            connection.execute("DELETE FROM resource WHERE run = ?1", [run.as_str()])?;
            put_resources(connection, ledger, run)?;
        }
        Event::AttemptStarted { run, .. } | Event::AttemptEnded { run, .. } => {
            if let Some(attempt) = ledger.run(run).and_then(|run| run.attempts.last()) {
                ATTEMPT.put(connection, &attempt_row(run, attempt))?;
            }
        }
        Event::Run { run, .. } | Event::Identified { run, .. } => put_run(connection, ledger, run)?,
        Event::Step { run, step, .. } => {
            put_run(connection, ledger, run)?;
            let found = ledger.run(run).and_then(|run| run.steps.get(step.index()));
            if let Some(found) = found {
                STEP.put(connection, &step_row(run, *step, found))?;
            }
        }
        Event::ResourceBound { run, resource, .. } => {
            put_resource(connection, ledger, run, resource, true)?;
            put_last_partition(connection, ledger)?;
        }
        Event::Fallback {
            run,
            resource,
            event,
        } => {
            let anew = matches!(event, FallbackEvent::Bound { .. } | FallbackEvent::Mended);
            put_resource(connection, ledger, run, resource, anew)?;
            if anew {
                put_last_partition(connection, ledger)?;
            }
        }
        Event::PartitionCut { partition, rest } => {
            for id in [*partition, rest.id] {
                put_partition(connection, ledger, id)?;
            }
            put_last_partition(connection, ledger)?;
        }
        Event::Resource {
            run,
            resource,
            event,
        } => {
            let anew = matches!(event, ResourceEvent::StartedOver { .. });
            put_resource(connection, ledger, run, resource, anew)?;
        }
        Event::Partition { partition, .. } | Event::Chunk { partition, .. } => {
            put_partition(connection, ledger, *partition)?;
        }
        Event::DeadLettersDropped { .. }
        | Event::DeadLettersSettled { .. }
        | Event::Noted { .. }
        | Event::Compacted { .. } => {}
    }
    letters::project(connection, ledger, at_ms, event)
}

/// Compares the tables (dead letters apart) with `ledger`.
pub(super) fn check(connection: &Connection, ledger: &Ledger) -> Result<(), Fault> {
    let (mut runs, mut attempts) = (Vec::new(), Vec::new());
    let (mut resources, mut partitions) = (Vec::new(), Vec::new());
    let mut steps = Vec::new();
    for (ordinal, run) in (0..).zip(&ledger.runs) {
        runs.push(run_row(ordinal, run));
        attempts.extend(run.attempts.iter().map(|had| attempt_row(&run.id, had)));
        let numbered = run.steps.iter().enumerate();
        steps.extend(numbered.map(|(at, step)| step_row(&run.id, StepNumber::at(at), step)));
        for (ordinal, resource) in (0..).zip(&run.resources) {
            resources.push(resource_row(&run.id, ordinal, resource));
            partitions.extend(
                resource
                    .partitions
                    .iter()
                    .map(|partition| partition_row(&run.id, &resource.name, partition)),
            );
        }
    }
    RUN.check(connection, runs)?;
    ATTEMPT.check(connection, attempts)?;
    STEP.check(connection, steps)?;
    RESOURCE.check(connection, resources)?;
    PARTITION.check(connection, partitions)?;
    if last_partition(connection)? == ledger.last_partition {
        return Ok(());
    }
    Err(Fault::table(
        "meta",
        "last_partition",
        "differs from what the events add up to",
    ))
}

/// Returns the ledger as the tables have it, without comparing it with the events.
pub(super) fn read(connection: &Connection) -> Result<Ledger, Fault> {
    let mut ledger = Ledger {
        runs: select(connection, &RUN, read_run)?,
        last_partition: last_partition(connection)?,
    };
    let mut index: BTreeMap<String, usize> = BTreeMap::new();
    for (at, run) in ledger.runs.iter().enumerate() {
        index.insert(run.id.as_str().to_owned(), at);
    }
    let lost = |table: &str| Fault::table(table, "of an unknown run", "belongs to nothing");
    for (run, attempt) in select(connection, &ATTEMPT, read_attempt)? {
        let at = *index.get(&run).ok_or_else(|| lost("attempt"))?;
        ledger.runs[at].attempts.push(attempt);
    }
    for (run, step) in select(connection, &STEP, read_step)? {
        let at = *index.get(&run).ok_or_else(|| lost("step"))?;
        ledger.runs[at].steps.push(step);
    }
    for (run, resource) in select(connection, &RESOURCE, read_resource)? {
        let at = *index.get(&run).ok_or_else(|| lost("resource"))?;
        ledger.runs[at].resources.push(resource);
    }
    for (run, resource, partition) in select(connection, &PARTITION, read_partition)? {
        index
            .get(&run)
            .and_then(|at| {
                ledger.runs[*at]
                    .resources
                    .iter_mut()
                    .find(|had| had.name.as_str() == resource)
            })
            .ok_or_else(|| lost("partition"))?
            .partitions
            .push(partition);
    }
    read_bindings(connection, &mut ledger)?;
    Ok(ledger)
}

/// What the events say of a resource that no table has a column for.
#[derive(Default)]
struct Binding {
    incarnation: Option<String>,
    watermark: Option<Watermark>,
    /// Whether only broken rows are in the hands of the publisher: what is bound afterwards goes where the others went.
    of_rows: bool,
}

/// Takes from the events what the rows of each resource go to, and since when they count as changed: no table has a column for
/// it, and few events name it.
fn read_bindings(connection: &Connection, ledger: &mut Ledger) -> Result<(), Fault> {
    let mut statement = connection.prepare(
        "SELECT seq, body FROM event WHERE label IN ('resource_bound', 'fallback', 'compacted') ORDER BY seq",
    )?;
    let mut rows = statement.query([])?;
    let mut bindings: BTreeMap<(RunId, ResourceName), Binding> = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let (seq, body): (u64, String) = (row.get::<_, i64>(0)?.cast_unsigned(), row.get(1)?);
        let event: Event =
            serde_json::from_str(&body).map_err(|error| Fault::event(seq, error.to_string()))?;
        match event {
            Event::ResourceBound {
                run,
                resource,
                incarnation,
                watermark,
                ..
            } => {
                let binding = Binding {
                    incarnation,
                    watermark,
                    of_rows: false,
                };
                bindings.insert((run, resource), binding);
            }
            Event::Fallback {
                run,
                resource,
                event,
            } => {
                let binding = bindings.entry((run, resource)).or_default();
                match event {
                    FallbackEvent::Begun { scope, .. } => {
                        binding.of_rows = scope == HandoverScope::Rows;
                    }
                    FallbackEvent::Bound { incarnation, .. } if !binding.of_rows => {
                        binding.incarnation = incarnation;
                    }
                    _ => {}
                }
            }
            Event::Compacted { ledger, .. } => {
                for run in ledger.runs {
                    for one in run.resources {
                        let binding = Binding {
                            of_rows: one.fallback.is_of_rows(),
                            incarnation: one.incarnation,
                            watermark: one.watermark,
                        };
                        bindings.insert((run.id.clone(), one.name), binding);
                    }
                }
            }
            _ => {}
        }
    }
    for run in &mut ledger.runs {
        // One that started over, or whose definition changed, is bound to nothing yet.
        for known in run
            .resources
            .iter_mut()
            .filter(|one| one.started_ms.is_some())
        {
            let place = (run.id.clone(), known.name.clone());
            if let Some(binding) = bindings.remove(&place) {
                known.incarnation = binding.incarnation;
                known.watermark = binding.watermark;
            }
        }
    }
    Ok(())
}

fn select<T>(
    connection: &Connection,
    table: &Table,
    read: fn(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>, Fault> {
    let mut statement = connection.prepare(&table.select)?;
    let rows = statement.query_map([], read)?;
    rows.collect::<rusqlite::Result<_>>().map_err(|error| {
        if error.sqlite_error_code().is_some() {
            Fault::Sqlite(error)
        } else {
            Fault::table(
                table.name,
                &format!("in order of {}", table.order),
                error.to_string(),
            )
        }
    })
}

fn last_partition(connection: &Connection) -> Result<u64, Fault> {
    let text: String = connection.query_row(
        "SELECT value FROM meta WHERE key = 'last_partition'",
        [],
        |row| row.get(0),
    )?;
    text.parse()
        .map_err(|_| Fault::table("meta", "last_partition", "is not a number"))
}

fn put_last_partition(connection: &Connection, ledger: &Ledger) -> rusqlite::Result<()> {
    connection.execute(
        "UPDATE meta SET value = ?1 WHERE key = 'last_partition'",
        [ledger.last_partition.to_string()],
    )?;
    Ok(())
}

fn put_partition(
    connection: &Connection,
    ledger: &Ledger,
    id: PartitionId,
) -> rusqlite::Result<()> {
    if let Some((run, resource, partition)) = ledger.partition(id) {
        PARTITION.put(
            connection,
            &partition_row(&run.id, &resource.name, partition),
        )?;
    }
    Ok(())
}

fn put_run(connection: &Connection, ledger: &Ledger, id: &RunId) -> rusqlite::Result<()> {
    for (ordinal, run) in (0..).zip(&ledger.runs) {
        if run.id == *id {
            RUN.put(connection, &run_row(ordinal, run))?;
        }
    }
    Ok(())
}

fn put_steps(connection: &Connection, ledger: &Ledger, id: &RunId) -> rusqlite::Result<()> {
    let steps = ledger.run(id).map_or(&[][..], |run| &run.steps);
    for (at, step) in steps.iter().enumerate() {
        STEP.put(connection, &step_row(id, StepNumber::at(at), step))?;
    }
    Ok(())
}

fn put_resources(connection: &Connection, ledger: &Ledger, id: &RunId) -> rusqlite::Result<()> {
    let resources = ledger.run(id).map_or(&[][..], |run| &run.resources);
    for resource in resources {
        put_resource(connection, ledger, id, &resource.name, true)?;
    }
    Ok(())
}

/// Stores a resource; with `partitions`, what stood of them is replaced as well.
fn put_resource(
    connection: &Connection,
    ledger: &Ledger,
    id: &RunId,
    name: &ResourceName,
    partitions: bool,
) -> rusqlite::Result<()> {
    let resources = ledger.run(id).map_or(&[][..], |run| &run.resources);
    for (ordinal, resource) in (0..).zip(resources) {
        if resource.name != *name {
            continue;
        }
        RESOURCE.put(connection, &resource_row(id, ordinal, resource))?;
        if partitions {
            connection
                .prepare_cached("DELETE FROM partition WHERE run = ?1 AND resource = ?2")?
                .execute([id.as_str(), name.as_str()])?;
            for partition in &resource.partitions {
                PARTITION.put(connection, &partition_row(id, name, partition))?;
            }
        }
    }
    Ok(())
}

/// Returns `value` as JSON. Our own types have string keys only, so that nothing in them can fail to be written.
pub(super) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

fn text(value: impl AsRef<str>) -> Value {
    Value::Text(value.as_ref().to_owned())
}

const fn number(value: u64) -> Value {
    Value::Integer(value.cast_signed())
}

fn maybe<T>(value: Option<T>, into: impl FnOnce(T) -> Value) -> Value {
    value.map_or(Value::Null, into)
}

fn run_row(ordinal: u64, run: &RunLedger) -> Vec<Value> {
    vec![
        text(run.id.as_str()),
        number(ordinal),
        text(run.state.label()),
        text(json(&run.state)),
        text(json(&run.scope)),
        Value::Integer(run.opened_ms),
        Value::Integer(run.moved_ms),
        maybe(run.source.as_deref(), text),
        text(json(&run.targets)),
        maybe(
            (!run.instead_of.is_empty()).then_some(&run.instead_of),
            |runs| text(runs.to_string()),
        ),
    ]
}

fn step_row(run: &RunId, number: StepNumber, step: &StepLedger) -> Vec<Value> {
    vec![
        text(run.as_str()),
        Value::Integer(number.0.into()),
        text(step.planned.place.label()),
        text(&step.planned.title),
        text(step.state.label()),
        text(json(step)),
    ]
}

fn attempt_row(run: &RunId, attempt: &AttemptLedger) -> Vec<Value> {
    vec![
        text(run.as_str()),
        number(attempt.number.into()),
        number(attempt.pid.into()),
        text(&attempt.host),
        text(&attempt.version),
        number(attempt.in_flight_bytes),
        Value::Integer(attempt.started_ms),
        maybe(attempt.end.as_ref(), |end| text(json(end))),
        maybe(attempt.ended_ms, Value::Integer),
    ]
}

fn resource_row(run: &RunId, ordinal: u64, resource: &ResourceLedger) -> Vec<Value> {
    vec![
        text(run.as_str()),
        text(resource.name.as_str()),
        number(ordinal),
        text(&resource.definition),
        text(resource.state.label()),
        text(json(&resource.state)),
        maybe(resource.columns.as_deref(), text),
        number(resource.estimated_rows),
        number(resource.voids.into()),
        maybe(resource.started_ms, Value::Integer),
        maybe(resource.ended_ms, Value::Integer),
        text(json(&resource.fallback)),
    ]
}

fn partition_row(run: &RunId, resource: &ResourceName, partition: &PartitionLedger) -> Vec<Value> {
    let progress = partition.state.progress();
    vec![
        number(partition.id.0),
        text(run.as_str()),
        text(resource.as_str()),
        number(partition.ordinal.into()),
        text(json(&partition.range)),
        text(partition.state.label()),
        number(progress.chunk.0),
        maybe(progress.after.as_ref(), |after| text(json(after))),
        number(progress.rows),
        number(progress.bytes),
        number(progress.dead_letters),
        maybe(progress.length, number),
        number(progress.page_rows.into()),
        maybe(partition.moved_ms, Value::Integer),
    ]
}

fn read_run(row: &Row<'_>) -> rusqlite::Result<RunLedger> {
    Ok(RunLedger {
        id: RunId::from_text(&row.get::<_, String>(0)?),
        state: from_json(row, 3)?,
        scope: from_json(row, 4)?,
        opened_ms: row.get(5)?,
        moved_ms: row.get(6)?,
        source: row.get(7)?,
        targets: from_json(row, 8)?,
        resources: Vec::new(),
        attempts: Vec::new(),
        steps: Vec::new(),
        instead_of: row
            .get::<_, Option<String>>(9)?
            .map(Predecessors::from)
            .unwrap_or_default(),
    })
}

fn read_step(row: &Row<'_>) -> rusqlite::Result<(String, StepLedger)> {
    Ok((row.get(0)?, from_json(row, 5)?))
}

fn read_attempt(row: &Row<'_>) -> rusqlite::Result<(String, AttemptLedger)> {
    let ended = row.get::<_, Option<String>>(7)?;
    Ok((
        row.get(0)?,
        AttemptLedger {
            number: row.get(1)?,
            pid: row.get(2)?,
            host: row.get(3)?,
            version: row.get(4)?,
            in_flight_bytes: unsigned(row, 5)?,
            started_ms: row.get(6)?,
            end: ended.map(|_| from_json(row, 7)).transpose()?,
            ended_ms: row.get(8)?,
        },
    ))
}

fn read_resource(row: &Row<'_>) -> rusqlite::Result<(String, ResourceLedger)> {
    Ok((
        row.get(0)?,
        ResourceLedger {
            name: row.get::<_, String>(1)?.into(),
            definition: row.get(3)?,
            state: from_json(row, 5)?,
            columns: row.get(6)?,
            estimated_rows: unsigned(row, 7)?,
            voids: row.get(8)?,
            partitions: Vec::new(),
            incarnation: None,
            watermark: None,
            started_ms: row.get(9)?,
            ended_ms: row.get(10)?,
            fallback: from_json(row, 11)?,
        },
    ))
}

fn read_partition(row: &Row<'_>) -> rusqlite::Result<(String, String, PartitionLedger)> {
    let after = row.get::<_, Option<String>>(7)?;
    let progress = Progress {
        chunk: ChunkSeq(unsigned(row, 6)?),
        after: after.map(|_| from_json(row, 7)).transpose()?,
        rows: unsigned(row, 8)?,
        bytes: unsigned(row, 9)?,
        dead_letters: unsigned(row, 10)?,
        length: row.get::<_, Option<i64>>(11)?.map(i64::cast_unsigned),
        page_rows: row.get(12)?,
    };
    let label: String = row.get(5)?;
    let state = [
        PartitionState::Open(progress.clone()),
        PartitionState::Suspect(progress.clone()),
        PartitionState::Exhausted(progress),
    ]
    .into_iter()
    .find(|state| state.label() == label)
    .ok_or_else(|| unreadable(5, format!("no such state: {label}").into()))?;
    Ok((
        row.get(1)?,
        row.get(2)?,
        PartitionLedger {
            id: PartitionId(unsigned(row, 0)?),
            ordinal: row.get(3)?,
            range: from_json(row, 4)?,
            state,
            moved_ms: row.get(13)?,
        },
    ))
}

fn unsigned(row: &Row<'_>, index: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(index).map(i64::cast_unsigned)
}

fn from_json<T: DeserializeOwned>(row: &Row<'_>, index: usize) -> rusqlite::Result<T> {
    serde_json::from_str(row.get_ref(index)?.as_str()?)
        .map_err(|error| unreadable(index, Box::new(error)))
}

fn unreadable(
    index: usize,
    why: Box<dyn std::error::Error + Send + Sync + 'static>,
) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(index, rusqlite::types::Type::Text, why)
}
