//! `run --dry-run`: connects and reads only, and shows what a run would do.

use std::{collections::BTreeMap, time::Duration};

use super::{
    Outcome, Stop,
    args::Global,
    connect, problems,
    render::{self, Screen, say},
    state_files::StateFile,
    table::table,
    wrap::say_wrapped,
};
use crate::{
    cutover,
    engine::{self, Answers, Coverage, Preview, ResourcePreview, StepPreview, TargetAnswer},
    failure::{Exit, Failure},
    ids::ResourceName,
    machine::{Ledger, Scope, StepPlace},
    plan::{Code, Diagnostic, Loaded, Plan, Severity},
    report::{
        human::{bytes, count, counted, duration, printable},
        without_row_text,
    },
    supervisor,
    target::Condition,
};

/// Rows a second assumed where no earlier run of the plan says better.
const ASSUMED_RATE: f64 = 100_000.0;

/// How a dry run was asked for.
#[derive(Debug, Clone, Copy)]
pub struct How {
    /// Whether warnings refuse it.
    pub strict: bool,
    /// `--accept-plan-change`
    pub accept: bool,
}

/// Shows what `run` would do.
pub fn dry_run(
    loaded: &Loaded,
    scope: &Scope,
    how: How,
    global: &Global,
    screen: Screen,
) -> Outcome {
    let plan = &loaded.plan;
    let state_path = connect::state_path(plan, global);
    let file = StateFile {
        path: state_path.clone(),
        plan: format!(
            "{} --dry-run{}{}",
            connect::typed(&plan.path, scope, global),
            if how.strict { " --strict" } else { "" },
            if how.accept {
                " --accept-plan-change"
            } else {
                ""
            }
        ),
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
    let targets = connect::ways(plan)?;
    let runtime = connect::runtime()?;
    let actions = cutover::connect(plan, &state_path, cutover::Purpose::Look)
        .map_err(|error| engine::refused_by_edge(&error, &plan.name, &file.plan))?;
    let steps = runtime.block_on(engine::preview_steps(plan, scope, &ledger, &actions));
    let (answers, mut found) = runtime.block_on(connect::checked(loaded, scope, &targets));
    let comes_later = may_come_later(plan, scope, &answers);
    if comes_later {
        demote(&mut found);
    }
    let mut seen = Seen {
        coverage: answers.coverage,
        problems: loaded.warnings.iter().cloned().chain(found).collect(),
        preview: Preview::default(),
        rate: measured_rate(&ledger),
    };
    if !seen.of(Severity::Error).is_empty() {
        seen.preview.refusals = seen.of(Severity::Error);
    } else if comes_later {
        seen.preview = without_source(scope, &ledger);
    } else {
        seen.preview = runtime.block_on(async {
            let source = connect::source(plan).await?;
            let (typed, accept) = (&file.plan, how.accept);
            engine::preview(plan, scope, &ledger, &*source, &targets, typed, accept).await
        })?;
        add_memory(plan, &mut seen.preview);
        add_room(loaded, &answers.targets, &mut seen);
    }
    seen.preview.steps = steps;
    if screen.json {
        say(&json(loaded, &seen).to_string());
    } else {
        tell(loaded, &seen, screen);
        if scope.ids.is_some() {
            tell_ids(plan, &seen.preview);
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
    let mut why = seen.preview.refusals.clone();
    let warnings = seen.warnings();
    if how.strict && !warnings.is_empty() {
        let count = warnings.len();
        why.extend(warnings);
        why.push(render::strict(count));
    }
    if why.is_empty() {
        if !screen.json {
            tell_next(plan, scope, how, global, &seen.preview);
        }
        return Ok(Exit::Done);
    }
    let run = connect::typed(&plan.path, scope, global);
    let next = next_of_refused(&seen.preview, why.len(), &run, &file.plan);
    Err(Stop::Failed(Failure {
        why,
        ..Failure::new(
            Exit::Refused,
            "a run would be refused",
            "a dry run changes nothing",
            next,
        )
    }))
}

/// Says what to type where a run would be refused for `causes` causes: `run` for the run itself, `again` for what was typed.
fn next_of_refused(preview: &Preview, causes: usize, run: &str, again: &str) -> String {
    if preview.plan_changes.is_empty() {
        return format!("mend the causes, then `rekindle run {again}`");
    }
    let others = if causes > preview.plan_changes.len() {
        "mend the other causes, then "
    } else {
        ""
    };
    format!(
        "{others}`rekindle run {run} --accept-plan-change` starts the changed resources over and goes on with the others; with \
         `--dry-run`, too, it says what that would be"
    )
}

/// Says what to type after a dry run that found nothing in the way.
fn tell_next(plan: &Plan, scope: &Scope, how: How, global: &Global, preview: &Preview) {
    let flags = if how.accept {
        " --accept-plan-change"
    } else {
        ""
    };
    let run = format!("{}{flags}", connect::typed(&plan.path, scope, global));
    let whole = connect::typed(&plan.path, &Scope::default(), global);
    let resources = preview.resources.iter();
    let blocked: Vec<_> = resources
        .filter_map(|one| one.blocks_again.as_deref())
        .collect();
    let next = if blocked.is_empty() {
        format!("`rekindle run {run}` does this")
    } else {
        engine::next_of_blocked(blocked, &run, &whole)
    };
    say_wrapped(&format!("  next:  {next}"));
}

/// Returns whether the source does not answer, and a step may be what brings it there.
fn may_come_later(plan: &Plan, scope: &Scope, answers: &Answers) -> bool {
    let may_bring_it = plan.prepare.iter().any(|one| one.kind.may_change_source());
    answers.source_error.is_some() && scope.is_whole() && may_bring_it
}

/// Makes warnings of what is wrong with a source that is not there yet.
fn demote(found: &mut [Diagnostic]) {
    for one in found {
        if matches!(
            one.code,
            Code::SourceCredentials | Code::SourceRefused | Code::SourceUnreachable
        ) {
            one.severity = Severity::Warning;
        }
    }
}

/// Returns what can be said of a run whose source is not there yet.
fn without_source(scope: &Scope, ledger: &Ledger) -> Preview {
    Preview {
        goes_on: ledger.unfinished(Some(scope)).map(|run| run.id.clone()),
        warnings: vec![
            "a run asks the source after the steps of `prepare`, so no resource is shown"
                .to_owned(),
        ],
        ..Preview::default()
    }
}

/// Everything that a dry run shows.
struct Seen {
    coverage: Coverage,
    /// What is wrong with the plan, by itself and by its servers.
    problems: Vec<Diagnostic>,
    preview: Preview,
    /// Rows a second of an earlier run.
    rate: Option<f64>,
}

impl Seen {
    fn of(&self, severity: Severity) -> Vec<String> {
        problems::messages(&self.problems, severity)
    }

    /// Returns what a person should know, in words.
    fn warnings(&self) -> Vec<String> {
        let mut all = self.of(Severity::Warning);
        all.extend(self.preview.warnings.iter().cloned());
        all
    }
}

/// Adds a warning for each target that has too little memory for the rows.
fn add_room(loaded: &Loaded, answers: &BTreeMap<String, TargetAnswer>, seen: &mut Seen) {
    for (name, needed) in target_memory(&loaded.plan, &seen.preview) {
        let conditions = answers.get(&name).map(|answer| &answer.conditions[..]);
        let mut conditions = conditions.unwrap_or_default().iter();
        let free = conditions.find_map(|one| match one {
            Condition::Free(free) => Some(*free),
            _ => None,
        });
        let warning =
            free.and_then(|free| engine::no_room(&loaded.places, &name, needed, free, bytes));
        seen.problems.extend(warning);
    }
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

/// What a run would restore.
struct Totals {
    rows: u64,
    bytes: u64,
}

fn totals(preview: &Preview) -> Totals {
    preview
        .resources
        .iter()
        .filter(|one| one.blocks_again.is_none())
        .fold(Totals { rows: 0, bytes: 0 }, |sum, one| Totals {
            rows: sum.rows + one.rows_left,
            bytes: sum.bytes + bytes_left(one).unwrap_or(0),
        })
}

/// Returns the bytes of the rows that are left of a resource; `None` where no row is known.
fn bytes_left(one: &ResourcePreview) -> Option<u64> {
    one.row.map(|row| times(one.rows_left, row.bytes))
}

fn bytes_text(one: &ResourcePreview) -> String {
    match bytes_left(one) {
        Some(left) => bytes(left),
        None if one.rows_left > 0 => "unknown".to_owned(),
        None => String::new(),
    }
}

/// Returns `rows` times a mean size.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float casts to the nearest number there is"
)]
fn times(rows: u64, mean: f64) -> u64 {
    (rows as f64 * mean).round() as u64
}

/// How long a run would take.
struct Forecast {
    takes: Duration,
    /// The resource whose `rows_per_second` makes it as long as that.
    throttled: Option<ResourceName>,
}

/// Returns how long the rows that are left take at `rate` rows a second, and no less than what the plan's `throttle` grants.
fn forecast(plan: &Plan, preview: &Preview, rate: Option<f64>) -> Forecast {
    let seconds = |rows: u64, rate: f64| Duration::from_secs_f64(rows as f64 / rate.max(1.0));
    let all = seconds(totals(preview).rows, rate.unwrap_or(ASSUMED_RATE));
    let will_go = preview
        .resources
        .iter()
        .filter(|one| one.blocks_again.is_none());
    let slowest = will_go
        .filter_map(|one| {
            let limit = plan.resource(&one.name)?.throttle.rows_per_second?;
            Some((seconds(one.rows_left, limit.into()), &one.name))
        })
        .max();
    match slowest {
        Some((takes, name)) if takes > all => Forecast {
            takes,
            throttled: Some(name.clone()),
        },
        _ => Forecast {
            takes: all,
            throttled: None,
        },
    }
}

fn tell(loaded: &Loaded, seen: &Seen, screen: Screen) {
    let (plan, preview, rate) = (&loaded.plan, &seen.preview, seen.rate);
    say_wrapped(&format!(
        "dry run of plan `{}`: nothing is written",
        plan.name
    ));
    if !seen.of(Severity::Error).is_empty() {
        problems::tell(&loaded.text, &seen.problems, screen);
        return;
    }
    say(&match &preview.goes_on {
        Some(run) => format!("  goes on with run {run}"),
        None => "  begins a new run".to_owned(),
    });
    for (name, value) in &preview.facts {
        say_wrapped(&format!("  {name}: {}", printable(value)));
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
                bytes_text(one),
                one.standing.clone(),
            ];
            cells.extend(has_more.then(|| printable(&one.key_columns.join(", "))));
            cells.push(one.fallback.clone().unwrap_or_default());
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
        "what happens",
    ];
    header.extend(has_more.then_some("keys from"));
    header.push("fallback");
    say(&table(&header, &rows, &[0, 4, 5, 6]));
    let sum = totals(preview);
    let forecast = forecast(plan, preview, rate);
    let expected = duration(forecast.takes);
    let basis = match forecast.throttled {
        Some(name) => format!("at least, by `throttle.rows_per_second` of `{name}`"),
        None if rate.is_some() => "at the rate of the last run".to_owned(),
        None => "at an assumed 100,000 rows/s".to_owned(),
    };
    say_wrapped(&format!(
        "  about {} and {} to restore; {expected} {basis}",
        counted(sum.rows, "row"),
        bytes(sum.bytes)
    ));
    tell_steps(&preview.steps, StepPlace::Finish);
    let part = if preview.goes_on.is_some() {
        " for what is left"
    } else {
        ""
    };
    for (target, needed) in target_memory(plan, preview) {
        say_wrapped(&format!(
            "  target `{target}` needs about {} of memory{part}",
            bytes(needed)
        ));
    }
    for one in &preview.resources {
        if let Some(why) = &one.blocks_again {
            let name = printable(one.name.as_str());
            say_wrapped(&format!("  {name} is blocked: {}", printable(why)));
        }
    }
    for redo in &preview.redo {
        say_wrapped(&format!("  {}", printable(redo)));
    }
    if let Some(ignored) = render::ignored(&seen.coverage.ignored) {
        say_wrapped(&format!("  {ignored}"));
    }
    problems::tell(&loaded.text, &seen.problems, screen);
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
        say_wrapped(&format!("  {}", printable(&text)));
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
            say_wrapped(&format!(
                "  ids of `{}` are of column `{}.{}`{}",
                printable(one.name.as_str()),
                printable(&resource.from.table),
                printable(column),
                without.map_or_else(String::new, |text| format!("; {}", printable(&text)))
            ));
        }
    }
}

/// Returns the memory that each Redis needs for the rows that are left: what is stored already takes its own.
fn target_memory(plan: &Plan, preview: &Preview) -> BTreeMap<String, u64> {
    let mut needed = BTreeMap::new();
    for one in &preview.resources {
        if matches!(
            plan.targets.get(&one.to),
            Some(crate::plan::TargetConfig::Redis(_))
        ) {
            let row = one.row.map_or(0.0, |row| row.memory);
            *needed.entry(one.to.clone()).or_default() += times(one.rows_left, row);
        }
    }
    needed
}

fn json(loaded: &Loaded, seen: &Seen) -> serde_json::Value {
    let (plan, preview, rate) = (&loaded.plan, &seen.preview, seen.rate);
    let sum = totals(preview);
    let resources: Vec<_> = preview
        .resources
        .iter()
        .map(|one| {
            serde_json::json!({
                "resource": one.name, "after": one.after, "to": one.to, "rows": one.rows, "rows_left": one.rows_left,
                "row_bytes": one.row.map(|row| times(1, row.bytes)), "bytes_left": bytes_left(one), "what": one.standing, "blocks_again": one.blocks_again, "fallback": one.fallback,
                "ids_column": plan.resource(&one.name).and_then(|resource| resource.from.ids_column()),
                "ids_asked": one.ids.as_ref().map(|ids| ids.asked),
                "ids_without_row": one.ids.as_ref().map(|ids| ids.without_row), "key_columns": one.key_columns,
            })
        })
        .collect();
    serde_json::json!({
        "plan": plan.name, "goes_on": preview.goes_on, "facts": preview.facts.iter().cloned().collect::<BTreeMap<_, _>>(),
        "resources": resources, "rows_left": sum.rows, "bytes_left": sum.bytes,
        "expected_seconds": forecast(plan, preview, rate).takes.as_secs_f64(), "rate_measured": rate.is_some(),
        "target_memory": target_memory(plan, preview), "redo": preview.redo, "warnings": seen.warnings(),
        "problems": loaded.text.entries(&seen.problems), "refusals": preview.refusals,
        "steps": preview.steps.iter().map(|step| serde_json::json!({
            "place": step.place, "title": step.title, "what": step.standing, "usual_ms": step.usual_ms,
        })).collect::<Vec<_>>(),
        "uncovered": render::uncovered(&seen.coverage.uncovered), "ignored": render::uncovered(&seen.coverage.ignored),
    })
}
