//! `elasticsearch:` of a target: what was typed, before it is checked and resolved.

use super::{
    decode::{Decoder, Fields, Value},
    grammar,
    model::{self, Tls},
    tree::Kind,
};

/// `elasticsearch:`
#[derive(Debug, Default)]
pub(super) struct Search {
    /// Each node's URL.
    pub urls: Vec<Value<String>>,
    pub tls: Option<Box<Tls>>,
    pub api_key: Option<Value<String>>,
    pub index: Option<Value<String>>,
    pub gzip: Option<Value<bool>>,
    /// `load.refresh: off`
    pub refresh_off: bool,
    pub replicas: Option<Value<u64>>,
    pub load_given: bool,
}

impl Search {
    pub fn read(search: &Fields<'_>, decoder: &mut Decoder<'_>) -> Self {
        search.require("url", "url: \"${SEARCH_URL}\"", decoder);
        search.require("index", "index: \"shop_{store}_{type}\"", decoder);
        let load = search.map("load", grammar::LOAD, decoder);
        if let Some(load) = &load {
            load.word("refresh", grammar::REFRESH, decoder);
        }
        Self {
            urls: urls(search, decoder),
            tls: Tls::read(search, decoder).map(Box::new),
            api_key: search.text("api_key", decoder),
            index: search.text("index", decoder),
            gzip: search.parsed("gzip", decoder, model::boolean),
            refresh_off: load
                .as_ref()
                .is_some_and(|load| load.get("refresh").is_some()),
            replicas: load
                .as_ref()
                .and_then(|load| load.count("replicas", decoder)),
            load_given: load.is_some(),
        }
    }
}

/// Returns the URLs of the nodes: a list, or one text with commas, as an environment variable holds them.
fn urls(search: &Fields<'_>, decoder: &mut Decoder<'_>) -> Vec<Value<String>> {
    if let Some((_, node)) = search.get("url")
        && matches!(node.kind, Kind::List(_))
    {
        return search
            .texts("url", decoder)
            .map(|urls| urls.value)
            .unwrap_or_default();
    }
    let Some(typed) = search.text("url", decoder) else {
        return Vec::new();
    };
    let one = |url: &str| Value {
        value: url.trim().to_owned(),
        typed: typed.typed.clone(),
        span: typed.span,
    };
    typed.value.split(',').map(one).collect()
}
