//! `run --dry-run`: connects and reads only, and shows what a run would do.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{
    Outcome, Stop,
    args::Global,
    connect,
    render::{self, Screen, say},
    state_files::StateFile,
    table::table,
};
use crate::{
    cutover,
    engine::{self, Preview, StepPreview},
    failure::{Exit, Failure},
    machine::{Scope, StepPlace},
    plan::{Loaded, Plan},
    report::{
        human::{bytes, count, counted, duration, printable},
        without_row_text,
    },
    supervisor,
};

/// Rows a second assumed where no earlier run of the plan says better.
const ASSUMED_RATE: f64 = 100_000.0;

/// Redis keeps about this much beside the bytes of a key and a value (dictionary entry, object headers).
const REDIS_OVERHEAD: u64 = 90;

/// Shows what `run` would do; with `strict`, warnings refuse it.
pub fn dry_run(
    loaded: Loaded,
    scope: &Scope,
    strict: bool,
    global: &Global,
    screen: Screen,
) -> Outcome {
    let plan = loaded.plan;
    let state_path = connect::state_path(&plan, global);
    let file = StateFile {
        path: state_path.clone(),
        plan: format!("{} --dry-run", connect::typed(&plan.path, scope, global)),
    };
    let view = file.view()?;
    let ledger = match &view {
        Some(view) => {
            view.ledger()
                .map_err(|error| engine::refused_by_journal(&error, &file.plan))?
                .0
        }
        None => crate::machine::Ledger::default(),
    };
    let targets = connect::targets(&plan)?;
    let runtime = connect::runtime()?;
    let plan = Arc::new(plan);
    let actions = cutover::connect(&plan, &state_path)
        .map_err(|error| engine::refused_by_edge(&error, &plan.name, &file.plan))?;
    let steps = runtime.block_on(engine::preview_steps(&plan, scope, &ledger, &actions));
    let previewed = runtime.block_on(async {
        let source = connect::source(&plan).await?;
        engine::preview(&plan, scope, &ledger, &*source, &targets, &file.plan).await
    });
    let mut preview = match previewed {
        Ok(preview) => Preview { steps, ..preview },
        // A step may be what brings the source there.
        Err(failure)
            if scope.is_whole() && plan.prepare.iter().any(|one| one.kind.may_change_source()) =>
        {
            let why = failure.why.join(": ");
            Preview {
                goes_on: ledger.unfinished(Some(scope)).map(|run| run.id.clone()),
                steps,
                warnings: vec![format!(
                    "{}: {why}; a run asks the source after the steps of `prepare`, so no resource is shown",
                    failure.what
                )],
                ..Preview::default()
            }
        }
        Err(failure) => return Err(failure.into()),
    };
    let of_plan = loaded.text.entries(&loaded.warnings);
    let of_plan = of_plan.into_iter().map(|warning| warning.message);
    preview.warnings.splice(..0, of_plan);
    let rate = measured_rate(&ledger);
    add_memory(&plan, &mut preview);
    if screen.json {
        say(&json(&plan, &preview, rate).to_string());
    } else {
        tell(&plan, &preview, rate, screen);
        if scope.ids.is_some() {
            tell_ids(&plan, &preview);
        }
    }
    if let Some(owner) = view.as_ref().and_then(|view| view.running()) {
        return Err(Stop::Failed(
            Failure::new(
                Exit::InUse,
                format!("state file {} is in use", state_path.display()),
                "a dry run changes nothing",
                format!(
                    "`rekindle status {} --watch` shows the run under way",
                    connect::typed(&plan.path, &Scope::default(), global)
                ),
            )
            .why(format!("pid {} on {} works with it", owner.pid, owner.host)),
        ));
    }
    let mut why = preview.refusals.clone();
    if strict && !preview.warnings.is_empty() {
        why.extend(preview.warnings.iter().cloned());
        why.push(render::strict(preview.warnings.len()));
    }
    if why.is_empty() {
        return Ok(Exit::Done);
    }
    Err(Stop::Failed(Failure {
        why,
        ..Failure::new(
            Exit::Refused,
            "a run would be refused",
            "a dry run changes nothing",
            format!("mend the causes, then `rekindle run {}`", file.plan),
        )
    }))
}

/// Adds what bounds the memory of a run, and a warning where the plan's budget does not fit below it.
fn add_memory(plan: &Plan, preview: &mut Preview) {
    let budget = plan.defaults.in_flight_bytes;
    let budget_text = format!("budget {} of the plan", bytes(budget));
    let Some(limit) = supervisor::memory_limit() else {
        let text = format!("{budget_text}, no limit found");
        preview.facts.push(("memory".to_owned(), text));
        return;
    };
    let free = limit.bytes.saturating_sub(limit.used_bytes);
    preview.facts.push((
        "memory".to_owned(),
        format!(
            "{budget_text}, limit {} ({}), {} free",
            bytes(limit.bytes),
            limit.set_by,
            bytes(free)
        ),
    ));
    if free < budget {
        preview.warnings.push(format!(
            "`memory.in_flight` is {}, and only {} are free below the limit of {} ({}): lower it, or give more memory",
            bytes(budget),
            bytes(free),
            bytes(limit.bytes),
            limit.set_by
        ));
    }
}

/// Returns rows a second over the attempts of the last run that stored anything.
fn measured_rate(ledger: &crate::machine::Ledger) -> Option<f64> {
    ledger.runs.iter().rev().find_map(|run| {
        let rows: u64 = run
            .resources
            .iter()
            .map(|resource| resource.totals().0)
            .sum();
        let ms: i64 = run
            .attempts
            .iter()
            .map(|one| one.ended_ms.unwrap_or(one.started_ms) - one.started_ms)
            .sum();
        (rows > 10_000 && ms > 0).then(|| rows as f64 * 1000.0 / ms as f64)
    })
}

struct Totals {
    rows: u64,
    bytes: u64,
}

fn totals(preview: &Preview) -> Totals {
    preview
        .resources
        .iter()
        .fold(Totals { rows: 0, bytes: 0 }, |sum, one| Totals {
            rows: sum.rows + one.rows_left,
            bytes: sum.bytes + one.rows_left * one.row_bytes.unwrap_or(0),
        })
}

fn seconds(rows: u64, rate: Option<f64>) -> Duration {
    Duration::from_secs_f64(rows as f64 / rate.unwrap_or(ASSUMED_RATE).max(1.0))
}

fn tell(plan: &Plan, preview: &Preview, rate: Option<f64>, screen: Screen) {
    say(&format!(
        "dry run of plan `{}`: nothing is written",
        plan.name
    ));
    say(&match &preview.goes_on {
        Some(run) => format!("  goes on with run {run}"),
        None => "  begins a new run".to_owned(),
    });
    for (name, value) in &preview.facts {
        say(&format!("  {name}: {}", printable(value)));
    }
    tell_steps(&preview.steps, StepPlace::Prepare);
    // Where every resource has just the keys of its rows, there is nothing to tell.
    let mut columns = preview.resources.iter().map(|one| one.key_columns.len());
    let has_more = columns.any(|columns| columns > 1);
    let rows: Vec<_> = preview
        .resources
        .iter()
        .enumerate()
        .map(|(i, one)| {
            let mut cells = vec![
                (i + 1).to_string(),
                printable(one.name.as_str()),
                one.after
                    .iter()
                    .map(crate::ids::ResourceName::as_str)
                    .collect::<Vec<_>>()
                    .join(", "),
                one.to.clone(),
                count(one.rows),
                count(one.rows_left),
                one.row_bytes
                    .map_or_else(String::new, |size| bytes(size * one.rows_left)),
                one.fallback.clone().unwrap_or_else(|| "none".to_owned()),
            ];
            cells.extend(has_more.then(|| printable(&one.key_columns.join(", "))));
            cells.push(one.standing.clone());
            cells
        })
        .collect();
    let mut header = vec![
        "",
        "resource",
        "after",
        "to",
        "rows, about",
        "left",
        "bytes left",
        "fallback",
    ];
    header.extend(has_more.then_some("keys from"));
    header.push("what happens");
    say(&table(&header, &rows, &[0, 4, 5, 6]));
    let sum = totals(preview);
    let expected = duration(seconds(sum.rows, rate));
    let basis = if rate.is_some() {
        "at the rate of the last run"
    } else {
        "at an assumed 100,000 rows/s"
    };
    say(&format!(
        "  about {} and {} to restore; {expected} {basis}",
        counted(sum.rows, "row"),
        bytes(sum.bytes)
    ));
    tell_steps(&preview.steps, StepPlace::Finish);
    for (target, needed) in target_memory(plan, preview) {
        say(&format!(
            "  target `{target}` needs about {} of memory",
            bytes(needed)
        ));
    }
    for redo in &preview.redo {
        say(&format!("  {}", printable(redo)));
    }
    if let Some(ignored) = render::ignored(&preview.ignored) {
        say(&format!("  {ignored}"));
    }
    for warning in &preview.warnings {
        screen.warn(warning);
    }
}

/// Says how each step of one list stands now.
fn tell_steps(steps: &[StepPreview], place: StepPlace) {
    for step in steps.iter().filter(|one| one.place == place) {
        let usual = step.usual_ms.map_or_else(String::new, |ms| {
            format!(
                ", took {} the last time",
                duration(Duration::from_millis(ms))
            )
        });
        let text = format!(
            "{}: {}: {}{usual}",
            place.label(),
            step.title,
            step.standing
        );
        say(&format!("  {}", printable(&text)));
    }
}

/// Says which column of each resource `--ids` filters.
fn tell_ids(plan: &Plan, preview: &Preview) {
    for one in &preview.resources {
        if let Some(resource) = plan.resource(&one.name) {
            let column = resource.from.ids_column().unwrap_or("no column");
            let asked = one.ids.as_ref();
            let without =
                asked.and_then(|ids| without_row_text(ids.asked, ids.without_row, &ids.named));
            say(&format!(
                "  ids of `{}` are of column `{}.{}`{}",
                printable(one.name.as_str()),
                printable(&resource.from.table),
                printable(column),
                without.map_or_else(String::new, |text| format!("; {}", printable(&text)))
            ));
        }
    }
}

fn target_memory(plan: &Plan, preview: &Preview) -> BTreeMap<String, u64> {
    let mut needed = BTreeMap::new();
    for one in &preview.resources {
        if matches!(
            plan.targets.get(&one.to),
            Some(crate::plan::TargetConfig::Redis(_))
        ) {
            *needed.entry(one.to.clone()).or_default() +=
                one.rows * (one.row_bytes.unwrap_or(0) + REDIS_OVERHEAD);
        }
    }
    needed
}

fn json(plan: &Plan, preview: &Preview, rate: Option<f64>) -> serde_json::Value {
    let sum = totals(preview);
    let resources: Vec<_> = preview
        .resources
        .iter()
        .map(|one| {
            serde_json::json!({
                "resource": one.name, "after": one.after, "to": one.to, "rows": one.rows, "rows_left": one.rows_left,
                "row_bytes": one.row_bytes, "what": one.standing, "fallback": one.fallback,
                "ids_column": plan.resource(&one.name).and_then(|resource| resource.from.ids_column()),
                "ids_asked": one.ids.as_ref().map(|ids| ids.asked),
                "ids_without_row": one.ids.as_ref().map(|ids| ids.without_row), "key_columns": one.key_columns,
            })
        })
        .collect();
    serde_json::json!({
        "plan": plan.name, "goes_on": preview.goes_on, "facts": preview.facts.iter().cloned().collect::<BTreeMap<_, _>>(),
        "resources": resources, "rows_left": sum.rows, "bytes_left": sum.bytes,
        "expected_seconds": seconds(sum.rows, rate).as_secs_f64(), "rate_measured": rate.is_some(),
        "target_memory": target_memory(plan, preview), "redo": preview.redo, "warnings": preview.warnings,
        "refusals": preview.refusals, "steps": preview.steps.iter().map(|step| serde_json::json!({
            "place": step.place, "title": step.title, "what": step.standing, "usual_ms": step.usual_ms,
        })).collect::<Vec<_>>(), "uncovered": render::uncovered(&preview.uncovered),
        "ignored": render::uncovered(&preview.ignored),
    })
}
