//! What a `throttle` measures has to be there.

use crate::plan::{
    decode::Value,
    diagnostic::{Code, Diagnostic, Span},
    model::{Model, TargetKind},
    quote::quoted,
    urls::{self, SourceUrl},
};

pub(super) fn check(model: &Model, problems: &mut Vec<Diagnostic>) {
    let is_file = model
        .source_url
        .as_ref()
        .is_some_and(|url| matches!(urls::source(&url.value), Ok(SourceUrl::Sqlite(_))));
    for resource in &model.resources {
        let path = &resource.path;
        if let Some(lag) = resource.throttle.replica_lag.as_ref().filter(|_| is_file) {
            problems.push(nothing(
                path,
                "replica_lag",
                lag.span,
                "the source is a file, which has no replicas",
            ));
        }
        let Some(used) = &resource.throttle.redis_used_percent else {
            continue;
        };
        let name = resource.to.as_ref().map(|to: &Value<String>| &to.value);
        let target = match name {
            Some(name) => model.targets.iter().find(|one| one.name.value == *name),
            None => model.targets.first().filter(|_| model.targets.len() == 1),
        };
        if let Some(kind) = target.and_then(|target| target.kind.as_ref())
            && !matches!(kind, TargetKind::Redis(_))
        {
            problems.push(nothing(
                path,
                "redis_used_percent",
                used.span,
                "its target is no redis",
            ));
        }
    }
}

fn nothing(path: &str, key: &str, at: Span, why: &str) -> Diagnostic {
    let path = format!("{path}.throttle.{key}");
    Diagnostic::new(
        Code::InvalidValue,
        format!("{} has nothing to measure: {why}", quoted(&path)),
    )
    .at(at, "not possible here")
    .help("remove it")
}
