//! The files of `tls` are there and hold what they are named for, and the URL does not say otherwise.

use std::path::{Path, PathBuf};

use crate::{
    plan::{
        decode::Value,
        diagnostic::{Code, Diagnostic},
        model::{Model, StepKind, TargetKind, Tls},
        quote::quoted,
        resolve,
        urls::{self, RedisUrl, SourceUrl},
    },
    tls::{self, PemError, Verify},
};

pub(super) fn check(model: &Model, folder: &Path, problems: &mut Vec<Diagnostic>) {
    if let Some(tls) = &model.source_tls {
        files(tls, folder, problems);
        let url = model.source_url.as_ref().map(|url| url.value.as_str());
        match url.map(urls::source) {
            Some(Ok(SourceUrl::Sqlite(_))) => problems.push(needless(
                tls,
                "is given, but a SQLite file is read without a connection",
                "remove it",
            )),
            Some(Ok(_)) if url.is_some_and(urls::says_tls) => problems.push(needless(
                tls,
                "is given, and the URL has settings of its own for TLS",
                "take `ssl...` out of the URL",
            )),
            _ => {}
        }
    }
    if let Some(jenkins) = &model.jenkins
        && let Some(tls) = &jenkins.tls
    {
        files(tls, folder, problems);
    }
    for step in model.prepare.iter().chain(&model.finish) {
        if let Some(StepKind::HttpCheck {
            url,
            tls: Some(tls),
            ..
        }) = &step.kind
        {
            files(tls, folder, problems);
            if url
                .as_ref()
                .is_some_and(|url| url.value.starts_with("http:"))
            {
                problems.push(needless(
                    tls,
                    "is given, but the URL asks for a connection without TLS",
                    "begin the URL with `https://`, or remove `tls`",
                ));
            }
        }
    }
    if let Some(broker) = &model.broker
        && let Some(tls) = &broker.tls
    {
        files(tls, folder, problems);
        let own = broker.stores.iter().filter_map(|store| store.url.as_ref());
        let mut all = broker.url.iter().chain(own);
        if all.any(|url| url.value.starts_with("amqp:")) {
            problems.push(needless(
                tls,
                "is given, but a URL asks for a connection without TLS",
                "begin every URL with `amqps://`, or remove `tls`",
            ));
        }
    }
    for target in &model.targets {
        if let Some(TargetKind::Search(search)) = &target.kind
            && let Some(tls) = &search.tls
        {
            files(tls, folder, problems);
            if search.urls.iter().any(|url| url.value.starts_with("http:")) {
                problems.push(needless(
                    tls,
                    "is given, but a URL asks for a connection without TLS",
                    "begin every URL with `https://`, or remove `tls`",
                ));
            }
            if let Some(verify) = tls.verify.as_ref().filter(|one| one.value == Verify::Ca) {
                let path = format!("{}.verify", tls.path);
                problems.push(
                    Diagnostic::new(
                        Code::InvalidValue,
                        format!("{} cannot be `ca` for a search cluster", quoted(&path)),
                    )
                    .at(verify.span, "not possible here")
                    .help("write `full`, or `none` to trust anybody"),
                );
            }
        }
        if let Some(TargetKind::Redis(redis)) = &target.kind
            && let Some(tls) = &redis.tls
        {
            files(tls, folder, problems);
            match redis.url.as_ref().map(|url| urls::redis(&url.value)) {
                Some(Ok(RedisUrl::Plain)) => problems.push(needless(
                    tls,
                    "is given, but the URL asks for a connection without TLS",
                    "begin the URL with `rediss://`, or remove `tls`",
                )),
                Some(Ok(RedisUrl::Socket)) => problems.push(needless(
                    tls,
                    "is given, but a unix socket has no TLS",
                    "remove it",
                )),
                _ => {}
            }
        }
    }
}

fn needless(tls: &Tls, why: &str, help: &str) -> Diagnostic {
    Diagnostic::new(Code::InvalidValue, format!("{} {why}", quoted(&tls.path)))
        .at(tls.at, "does not fit the URL")
        .help(help.to_owned())
}

fn files(tls: &Tls, folder: &Path, problems: &mut Vec<Diagnostic>) {
    let before = problems.len();
    let at = |path: &str| resolve::absolute(folder, path);
    for (key, file) in [("ca", &tls.ca), ("cert", &tls.cert)] {
        if let Some(file) = file {
            let read = tls::certificates(&at(&file.value)).map(drop);
            problems.extend(problem(tls, key, file, read));
        }
    }
    if let Some(file) = &tls.key {
        let read = tls::private_key(&at(&file.value)).map(drop);
        problems.extend(problem(tls, "key", file, read));
    }
    let lonely = match (&tls.cert, &tls.key) {
        (Some(_), None) => Some(("key", "tls: { cert: client.pem, key: client.key }")),
        (None, Some(_)) => Some(("cert", "tls: { cert: client.pem, key: client.key }")),
        _ => None,
    };
    if let Some((key, example)) = lonely.filter(|_| !tls.broken) {
        let path = format!("{}.{key}", tls.path);
        problems.push(
            Diagnostic::new(Code::MissingKey, format!("{} is missing", quoted(&path)))
                .at(tls.at, format!("has no {}", quoted(key)))
                .help(format!(
                    "a certificate and its key go together: `{example}`"
                )),
        );
    }
    // Each is sound; whether the key is the certificate's shows when both are put to use.
    if problems.len() == before
        && let (Some(_), Some(key)) = (&tls.cert, &tls.key)
        && let Err(error) = tls::client("the server", &resolve::tls(tls, folder, &mut Vec::new()))
    {
        problems.push(
            Diagnostic::new(Code::InvalidValue, error.message)
                .at(key.span, "does not fit")
                .help("name the key that the certificate was made for"),
        );
    }
}

fn problem(
    tls: &Tls,
    key: &str,
    file: &Value<String>,
    read: Result<(), PemError>,
) -> Option<Diagnostic> {
    let error = read.err()?;
    let code = match error {
        PemError::Unreadable(_) => Code::MissingFile,
        PemError::Without(_) | PemError::Broken => Code::InvalidValue,
    };
    let path = quoted(&format!("{}.{key}", tls.path));
    let named: PathBuf = file.typed.clone().into();
    let help = if named.is_absolute() {
        "name a PEM file that can be read"
    } else {
        "name a PEM file that can be read; its path is relative to the folder of the plan file"
    };
    Some(
        Diagnostic::new(code, format!("{path} cannot be used: {error}"))
            .at(file.span, "this file")
            .help(help),
    )
}
