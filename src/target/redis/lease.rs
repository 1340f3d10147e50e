//! The lease: one key that says which state file writes here.

use super::server::Server;
use crate::{
    error::{EdgeError, ErrorKind},
    target::{Lease, LeaseOwner},
};

/// Where the lease is kept: `{"state":"9c1f...","state_path":"...","host":"batch-2","pid":4121,"run":"7F3K2M"}`.
pub(super) const KEY: &str = "rekindle:lease";

/// How long a lease outlives its last renewal. Shorter and a slow renewal loses it; longer and a run on another
/// machine waits for nothing after a crash.
const TTL_MS: u32 = 30_000;

/// Takes or renews in one step, so that two state files can never both hold it. Returns the owner's text when that
/// is another one. An unchanged text is only prolonged: that works even when memory is full.
const TAKE: &str = r"
local held = redis.call('GET', KEYS[1])
if held == ARGV[2] then
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
  return false
end
if held then
  local read, owner = pcall(cjson.decode, held)
  if not read or type(owner) ~= 'table' or owner.state ~= ARGV[1] then return held end
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return false
";

/// Removes the lease if the state file `ARGV[1]` holds it.
const RELEASE: &str = r"
local held = redis.call('GET', KEYS[1])
if not held then return 0 end
local read, owner = pcall(cjson.decode, held)
if read and type(owner) == 'table' and owner.state == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
";

/// Takes, takes over or renews the lease for `owner`.
pub(super) async fn take(server: &Server, owner: &LeaseOwner) -> Result<Lease, EdgeError> {
    let text = serde_json::to_string(owner).map_err(|e| {
        EdgeError::new(ErrorKind::Internal, "the lease cannot be written as JSON").because(e)
    })?;
    let mut eval = ::redis::cmd("EVAL");
    eval.arg(TAKE)
        .arg(1)
        .arg(KEY)
        .arg(&owner.state)
        .arg(&text)
        .arg(TTL_MS);
    let held: Option<Vec<u8>> = server.ask("the lease", &eval).await?;
    held.map_or(Ok(Lease::Held), |held| {
        parse(server, &held).map(Lease::TakenBy)
    })
}

/// Removes the lease if `owner.state` holds it.
pub(super) async fn release(server: &Server, owner: &LeaseOwner) -> Result<(), EdgeError> {
    let mut eval = ::redis::cmd("EVAL");
    eval.arg(RELEASE).arg(1).arg(KEY).arg(&owner.state);
    let _removed: u64 = server.ask("to take the lease back", &eval).await?;
    Ok(())
}

/// Returns who holds the lease.
pub(super) async fn owner(server: &Server) -> Result<Option<LeaseOwner>, EdgeError> {
    let mut get = ::redis::cmd("GET");
    get.arg(KEY);
    let held: Option<Vec<u8>> = server.ask("to show the lease", &get).await?;
    held.map(|held| parse(server, &held)).transpose()
}

fn parse(server: &Server, held: &[u8]) -> Result<LeaseOwner, EdgeError> {
    serde_json::from_slice(held).map_err(|_| {
        EdgeError::new(
            ErrorKind::Refused,
            format!(
                "{} has a key `{KEY}` that is not a lease of rekindle; if nobody needs it, remove it",
                server.place
            ),
        )
    })
}
