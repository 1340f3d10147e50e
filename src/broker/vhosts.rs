//! The vhosts of a plan's broker, and which of them a row goes to.
//!
//! ```text
//! row of a store     -> the vhost of that store            `broker.stores`; without it, the one of `broker.url`
//! row of no store    -> every vhost, without a store        the shop's pool of queues
//!                    -> once for each store, with its name  `broker.dynamic_stores`
//! ```

use std::{collections::BTreeMap, sync::Arc};

use secrecy::ExposeSecret as _;

use super::link::Broker;
use crate::{error::EdgeError, plan::BrokerConfig};

/// All vhosts of a plan.
pub struct Vhosts {
    all: Vec<Vhost>,
    /// Which of them is a store's; none where all stores share one.
    by_store: BTreeMap<String, usize>,
    each_store: Vec<String>,
}

/// One vhost.
pub struct Vhost {
    /// The way there.
    pub broker: Arc<Broker>,
    /// Its store, where it has just one.
    pub store: Option<String>,
}

/// Where one message of a row goes: the number of the vhost, and the store that it names.
pub(super) type Route<'a> = (usize, Option<&'a str>);

impl Vhosts {
    /// Reads the settings. Connects to nothing.
    ///
    /// # Errors
    ///
    /// `Refused` for a URL that cannot be used.
    pub fn new(config: &BrokerConfig) -> Result<Self, EdgeError> {
        let vhost = |url, store| -> Result<Vhost, EdgeError> {
            let broker = Arc::new(Broker::new(url, config)?);
            Ok(Vhost { broker, store })
        };
        let mut all = Vec::new();
        let mut by_store = BTreeMap::new();
        let mut urls: Vec<&str> = Vec::new();
        for (store, url) in &config.stores {
            let at = urls.iter().position(|had| *had == url.expose_secret());
            let at = if let Some(at) = at {
                let shared: &mut Vhost = &mut all[at];
                shared.store = None;
                at
            } else {
                urls.push(url.expose_secret());
                all.push(vhost(url, Some(store.clone()))?);
                all.len() - 1
            };
            by_store.insert(store.clone(), at);
        }
        if all.is_empty() {
            all.push(vhost(&config.url, None)?);
        }
        Ok(Self {
            all,
            by_store,
            each_store: config.each_store.clone(),
        })
    }

    /// Returns each of them.
    #[must_use]
    pub fn each(&self) -> impl ExactSizeIterator<Item = &Vhost> {
        self.all.iter()
    }

    /// Returns what errors and reports call them together.
    pub(super) fn place(&self) -> String {
        let places: Vec<_> = self.all.iter().map(|one| one.broker.place()).collect();
        places.join(" and ")
    }

    /// Returns a text that is equal for the same vhosts, without secrets.
    pub(super) fn identity(&self) -> String {
        let all: Vec<_> = self.all.iter().map(|one| one.broker.identity()).collect();
        all.join(" and ")
    }

    /// Returns what reports call `queue` of a vhost: its name, behind that of the vhost where there are several.
    #[must_use]
    pub fn label(&self, vhost: &Vhost, queue: &str) -> String {
        if self.all.len() == 1 {
            queue.to_owned()
        } else {
            format!("{}/{queue}", vhost.broker.vhost())
        }
    }

    /// Returns where messages of a row of `store` go; `None` where that store has no vhost.
    pub(super) fn routes<'a>(&'a self, store: Option<&'a str>) -> Option<Vec<Route<'a>>> {
        let of = |store: &'a str| -> Option<Route<'a>> {
            let at = if self.by_store.is_empty() {
                0
            } else {
                *self.by_store.get(store)?
            };
            Some((at, Some(store)))
        };
        match store {
            Some(store) => Some(vec![of(store)?]),
            None if self.each_store.is_empty() => {
                Some((0..self.all.len()).map(|at| (at, None)).collect())
            }
            None => self.each_store.iter().map(|store| of(store)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vhosts(stores: &[(&str, &str)], each: &[&str]) -> Vhosts {
        let url = |vhost: &str| format!("amqp://app:geheim@mq.test/{vhost}").into();
        Vhosts::new(&BrokerConfig {
            url: url("shop"),
            tls: None,
            declare: false,
            management: None,
            stores: stores
                .iter()
                .map(|(store, vhost)| ((*store).to_owned(), url(vhost)))
                .collect(),
            each_store: each.iter().map(ToString::to_string).collect(),
        })
        .unwrap()
    }

    #[test]
    fn one_vhost_takes_everything_once() {
        let one = vhosts(&[], &[]);
        assert_eq!(one.routes(Some("DE")), Some(vec![(0, Some("DE"))]));
        assert_eq!(one.routes(None), Some(vec![(0, None)]));
    }

    #[test]
    fn a_row_goes_to_the_vhost_of_its_store_and_without_one_to_the_whole_pool() {
        let two = vhosts(&[("AT", "at"), ("CH", "at"), ("DE", "de")], &[]);
        assert_eq!(two.routes(Some("DE")), Some(vec![(1, Some("DE"))]));
        assert_eq!(two.routes(Some("CH")), Some(vec![(0, Some("CH"))]));
        assert_eq!(two.routes(None), Some(vec![(0, None), (1, None)]));
        assert_eq!(two.routes(Some("US")), None);
        // A vhost of two stores does not say whose a message without one is.
        let stores: Vec<_> = two.each().map(|one| one.store.as_deref()).collect();
        assert_eq!(stores, [None, Some("DE")]);
    }

    #[test]
    fn with_dynamic_stores_a_row_of_none_is_sent_once_for_each() {
        let one = vhosts(&[], &["DE", "AT"]);
        let both = vec![(0, Some("DE")), (0, Some("AT"))];
        assert_eq!(one.routes(None), Some(both));
        assert_eq!(one.routes(Some("AT")), Some(vec![(0, Some("AT"))]));
        let two = vhosts(&[("AT", "at"), ("DE", "de")], &["DE", "AT"]);
        assert_eq!(
            two.routes(None),
            Some(vec![(1, Some("DE")), (0, Some("AT"))])
        );
    }
}
