//! Where a name leads: after a rename and a restore, the old one may lead to the old server for a while.

use std::{net::IpAddr, time::Duration};

use tokio::{net::lookup_host, time::timeout};

use super::{
    super::{Looks, Told},
    Restore,
};
use crate::{error::EdgeError, remote::rds::Instance};

/// How long a host may take to be looked up.
const LOOKUP: Duration = Duration::from_secs(2);

impl Restore {
    /// Waits until the name no longer leads to the original, as far as names can be looked up from here.
    pub(super) async fn leads_there(
        &self,
        restored: &Instance,
        told: Told<'_>,
    ) -> Result<(), EdgeError> {
        let Some((host, port)) = &restored.endpoint else {
            return Ok(());
        };
        let Some(original) = self.rds.instance(&self.plan.settings_of).await? else {
            return Ok(());
        };
        let Some((old, old_port)) = &original.endpoint else {
            return Ok(());
        };
        let mut looks = Looks::new();
        while share(
            &addresses(host, *port).await,
            &addresses(old, *old_port).await,
        ) {
            told(format!("{host} still leads to the server of {old}"));
            looks.pause().await;
        }
        Ok(())
    }
}

/// Returns the addresses of a host; none where that cannot be told in time.
async fn addresses(host: &str, port: i32) -> Vec<IpAddr> {
    let port = u16::try_from(port).unwrap_or(0);
    match timeout(LOOKUP, lookup_host((host, port))).await {
        Ok(Ok(found)) => found.map(|address| address.ip()).collect(),
        _ => Vec::new(),
    }
}

fn share(one: &[IpAddr], other: &[IpAddr]) -> bool {
    one.iter().any(|address| other.contains(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_in_common_is_the_same_server() {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let (a, b) = (address("10.0.0.1"), address("10.0.0.2"));
        assert!(share(&[a, b], &[b]));
        assert!(!share(&[a], &[b]));
        assert!(!share(&[], &[b]), "what cannot be looked up tells nothing");
    }
}
