//! Connection URLs can be used by this release.

use crate::plan::{
    decode::Value,
    diagnostic::Diagnostic,
    model::{Model, TargetKind},
    quote::quoted,
    urls::{self, UrlFault},
};

pub(super) fn check(model: &Model, problems: &mut Vec<Diagnostic>) {
    if let Some(url) = &model.source_url
        && let Err(fault) = urls::source(&url.value)
    {
        problems.push(problem("source.url", url, &fault));
    }
    if let Some(url) = model.broker.as_ref().and_then(|broker| broker.url.as_ref())
        && let Err(fault) = urls::broker(&url.value)
    {
        problems.push(problem("broker.url", url, &fault));
    }
    if let Some(url) = model
        .broker
        .as_ref()
        .and_then(|broker| broker.management.as_ref())
        && let Err(fault) = urls::management(&url.value)
    {
        problems.push(problem("broker.management", url, &fault));
    }
    for store in model.broker.iter().flat_map(|broker| &broker.stores) {
        if let Some(url) = &store.url
            && let Err(fault) = urls::broker(&url.value)
        {
            let path = format!("broker.stores.{}.url", store.name.value);
            problems.push(problem(&path, url, &fault));
        }
    }
    for target in &model.targets {
        let path = |end: &str| format!("targets.{}.{end}", target.name.value);
        match &target.kind {
            Some(TargetKind::Redis(redis)) => {
                if let Some(url) = &redis.url
                    && let Err(fault) = urls::redis(&url.value)
                {
                    problems.push(problem(&path("redis.url"), url, &fault));
                }
            }
            Some(TargetKind::File(file)) => {
                if let Some(folder) = file
                    .path
                    .as_ref()
                    .filter(|path| path.value.trim().is_empty())
                {
                    let fault = UrlFault {
                        code: crate::plan::Code::InvalidValue,
                        message: "is empty".to_owned(),
                        help: "name a folder, relative to the folder of the plan file",
                    };
                    problems.push(problem(&path("file.path"), folder, &fault));
                }
            }
            Some(TargetKind::Search(search)) => {
                for url in &search.urls {
                    if let Err(fault) = urls::search(&url.value) {
                        problems.push(problem(&path("elasticsearch.url"), url, &fault));
                    }
                }
            }
            None => {}
        }
    }
}

fn problem(path: &str, url: &Value<String>, fault: &UrlFault) -> Diagnostic {
    Diagnostic::new(fault.code, format!("{} {}", quoted(path), fault.message))
        .at(url.span, "cannot be used")
        .help(fault.help)
}
