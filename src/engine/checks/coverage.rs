//! Which tables of the source look like read models and are in no resource of the plan: a custom module whose
//! synchronization nobody thought of is missing in the shop, and no run would tell.

use super::Scene;
use crate::{
    error::{EdgeError, chain},
    plan::{Code, Diagnostic, Plan, TablePattern},
    report::human::counted,
    source::{ReadModel, Source},
};

/// So many tables are named one by one; the rest is counted. A plan for one table of a large shop is no mistake.
const NAMED: usize = 20;

/// A table that no resource covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uncovered {
    /// What a plan would call it.
    pub table: String,
    /// Its rows, as the source estimates them.
    pub rows: u64,
}

/// What the plan does not cover.
#[derive(Debug, Default)]
pub struct Coverage {
    /// Sorted by name.
    pub uncovered: Vec<Uncovered>,
    /// Those that `ignore_tables` of the plan names; sorted by name.
    pub ignored: Vec<Uncovered>,
    /// Entries of `ignore_tables` that mean no table, by their number from 0.
    pub without_table: Vec<usize>,
    /// Why nothing of this is known.
    pub unknown: Option<EdgeError>,
}

/// Returns what `plan` does not cover of its source.
pub(super) async fn of(plan: &Plan, source: &dyn Source) -> Coverage {
    match source.read_models().await {
        Ok(found) => {
            let (uncovered, ignored) = uncovered(plan, &found);
            Coverage {
                uncovered,
                ignored,
                without_table: without_table(&plan.ignored, &found),
                unknown: None,
            }
        }
        Err(error) => Coverage {
            unknown: Some(error),
            ..Coverage::default()
        },
    }
}

/// Notes each table that no resource covers.
pub(super) fn check(scene: &Scene<'_>, problems: &mut Vec<Diagnostic>) {
    problems.extend(self::problems(&scene.answers.coverage));
}

fn problems(coverage: &Coverage) -> Vec<Diagnostic> {
    let mut problems = Vec::new();
    if let Some(error) = &coverage.unknown {
        let why = chain(error).join(": ");
        problems.push(
            Diagnostic::new(
                Code::CoverageUnknown,
                format!("whether the plan covers every table is not known: {why}"),
            )
            .help("give the user the right to look into the catalogue"),
        );
    }
    let warnings = warnings(&coverage.uncovered).into_iter();
    problems.extend(warnings.map(|warning| {
        Diagnostic::new(Code::UncoveredTable, warning)
            .help("give each table a resource, or name it in `ignore_tables`")
    }));
    problems
}

fn means(pattern: &TablePattern, table: &ReadModel) -> bool {
    table.names.iter().any(|name| pattern.matches(name))
}

/// Returns the tables that no resource covers: those that nobody thought of, and those that the plan ignores.
fn uncovered(plan: &Plan, found: &[ReadModel]) -> (Vec<Uncovered>, Vec<Uncovered>) {
    let is_covered = |table: &ReadModel| {
        let mut resources = plan.resources.iter();
        resources.any(|resource| table.names.contains(&resource.from.table))
    };
    let is_ignored = |table: &ReadModel| plan.ignored.iter().any(|one| means(one, table));
    let (ignored, uncovered) = found
        .iter()
        .filter(|table| !is_covered(table))
        .partition(|table| is_ignored(table));
    let listed = |tables: Vec<&ReadModel>| {
        let mut listed: Vec<_> = tables
            .into_iter()
            .map(|table| Uncovered {
                table: table.table().to_owned(),
                rows: table.estimated_rows,
            })
            .collect();
        listed.sort_unstable_by(|a, b| a.table.cmp(&b.table));
        listed
    };
    (listed(uncovered), listed(ignored))
}

/// Returns the patterns that mean no table, by their number.
fn without_table(patterns: &[TablePattern], found: &[ReadModel]) -> Vec<usize> {
    let numbered = patterns.iter().enumerate();
    numbered
        .filter(|(_, pattern)| !found.iter().any(|table| means(pattern, table)))
        .map(|(number, _)| number)
        .collect()
}

fn warnings(uncovered: &[Uncovered]) -> Vec<String> {
    let mut warnings: Vec<_> = uncovered
        .iter()
        .take(NAMED)
        .map(|one| {
            format!(
                "no resource of the plan covers `{}` (about {})",
                one.table,
                counted(one.rows, "row")
            )
        })
        .collect();
    if let Some(rest) = uncovered.get(NAMED..).filter(|rest| !rest.is_empty()) {
        let rows = rest
            .iter()
            .fold(0_u64, |sum, one| sum.saturating_add(one.rows));
        warnings.push(format!(
            "no resource of the plan covers {} more tables (about {}); `--json` names them all",
            rest.len(),
            counted(rows, "row")
        ));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn twenty_tables_are_named_and_the_rest_is_counted() {
        let tables = |count: u64| -> Vec<_> {
            (0..count)
                .map(|rows| Uncovered {
                    table: format!("t{rows}_storage"),
                    rows,
                })
                .collect()
        };
        assert_eq!(warnings(&tables(0)), Vec::<String>::new());
        assert_eq!(warnings(&tables(20)).len(), 20);
        let some = warnings(&tables(22));
        assert_eq!(
            some[1],
            "no resource of the plan covers `t1_storage` (about 1 row)"
        );
        assert_eq!(
            some[20],
            "no resource of the plan covers 2 more tables (about 41 rows); `--json` names them all"
        );
    }

    #[test]
    fn a_source_that_does_not_tell_its_tables_is_a_warning() {
        let unknown = Coverage {
            unknown: Some(EdgeError::new(ErrorKind::Credentials, "no right to look")),
            ..Coverage::default()
        };
        let found = problems(&unknown);
        assert_eq!(found[0].code, Code::CoverageUnknown);
        assert!(found[0].message.ends_with("is not known: no right to look"));
        assert!(problems(&Coverage::default()).is_empty());
    }
}
