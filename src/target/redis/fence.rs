//! Ends connections that others left behind.
//!
//! A node of a cluster takes no transaction over keys of several slots, so rows are not written under a watch there.
//! What a process that lost its lease still has under way is stopped another way: its connections are named, and
//! whoever takes the lease ends them. A process that connects again finds the claim of another one.

use super::{proof::Proof, server::Server, wire::Wire};
use crate::{error::EdgeError, target::resp};

/// What the names of writers' connections begin with.
pub(super) const WRITER: &str = "rekindle-writer:";

/// Names the connection.
pub(super) async fn name(wire: &mut Wire, proof: &Proof, name: &str) -> Result<(), EdgeError> {
    resp::command(wire.out(), &[b"CLIENT", b"SETNAME", name.as_bytes()]);
    wire.flush().await.map_err(|e| proof.broken(e))?;
    proof.expect(wire, "OK").await
}

/// Ends all connections to `server` whose name begins with `start`.
pub(super) async fn end_connections(server: &Server, start: &str) -> Result<(), EdgeError> {
    let mut list = ::redis::cmd("CLIENT");
    list.arg("LIST");
    let clients: String = server.ask("to show who is connected", &list).await?;
    for id in ids_of(&clients, start) {
        let mut kill = ::redis::cmd("CLIENT");
        kill.arg("KILL").arg("ID").arg(id);
        // 0 when it is gone already.
        let _killed: u64 = server
            .ask("to end a connection that was left behind", &kill)
            .await?;
    }
    Ok(())
}

/// Returns the ids out of `id=17 addr=... name=rekindle-writer:... ...`, one client a line.
fn ids_of<'a>(clients: &'a str, start: &'a str) -> impl Iterator<Item = &'a str> {
    clients.lines().filter_map(move |line| {
        let field = |name: &str| {
            line.split(' ')
                .find_map(|field| field.strip_prefix(name)?.strip_prefix('='))
        };
        field("name")?.starts_with(start).then(|| field("id"))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_clients_of_that_name_are_found() {
        let clients = "id=3 addr=127.0.0.1:48754 name= age=0\n\
                       id=17 addr=127.0.0.1:48755 laddr=h:1 fd=9 name=rekindle-writer:7F3K2M:1 age=0\n\
                       id=18 addr=127.0.0.1:48756 name=other-rekindle-writer: age=0\n";
        assert_eq!(ids_of(clients, WRITER).collect::<Vec<_>>(), ["17"]);
    }
}
