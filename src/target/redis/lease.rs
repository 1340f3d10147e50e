//! Who may write here: the lease while a run works, and the claim that says who wrote last.
//!
//! The lease `rekindle:lease` keeps two runs apart that work side by side; it runs out by itself. The claim
//! `rekindle:writer` keeps them apart one after the other. Its value is `<token> <owner>`; a run that finds another
//! state file or run in it draws a new token, and a marker counts only with the token of the claim. So what was stored
//! before somebody else wrote here proves nothing any more:
//!
//! ```text
//! run A   claim t1, markers "1 t1" "2 t1" ...   waits half-way
//! run B                                         claim t2, writes the same keys, ends and removes its claim
//! run A                                         claim t3: markers of t1 do not count, A starts over
//! ```
//!
//! Every chunk is written under a watch on the claim, and every attempt sets it anew: what an earlier process, a
//! stopped one or a slow network still has under way is not carried out.

use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::Mutex;

use super::{keys::Keys, server::Server};
use crate::{
    error::{EdgeError, ErrorKind},
    ids,
    target::{Lease, LeaseOwner},
};

/// How long a lease outlives its last renewal. Shorter and a slow renewal loses it; longer and a run on another
/// machine waits for nothing after a crash.
const TTL_MS: u32 = 30_000;

/// What both scripts begin with. `claim` returns the text of the claim for this owner: the token that is there when
/// the same state file and run wrote it, else the fresh one.
/// Arguments: state, run, owner, time to live, fresh token, claim so far.
const COMMON: &str = r"
local function owner_of(text)
  local read, owner = pcall(cjson.decode, text)
  if read and type(owner) == 'table' then return owner end
end
local function is_ours(claim)
  local at = string.find(claim, ' ', 1, true)
  local owner = at and owner_of(string.sub(claim, at + 1))
  return owner and owner.state == ARGV[1] and owner.run == ARGV[2]
end
local function claim_after(found)
  local token = ARGV[5]
  if found and is_ours(found) then token = string.match(found, '^[^ ]*') end
  return token .. ' ' .. ARGV[3]
end
local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[3] then
  local owner = owner_of(held)
  if not owner or owner.state ~= ARGV[1] then return {1, held} end
end
local found = redis.call('GET', KEYS[2])
";

/// Takes both, whoever wrote last. The claim is set even if it stays the same: that is what ends the watches of an
/// earlier attempt.
const TAKE: &str = r"
redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4])
local claim = claim_after(found)
redis.call('SET', KEYS[2], claim)
return {0, claim}
";

/// Renews in one step, so that two state files can never both hold them. An unchanged text is only prolonged: that
/// works even when memory is full. Another's claim is not taken over: two runs would overwrite each other for ever.
const RENEW: &str = r"
if found ~= ARGV[6] then
  if found and not is_ours(found) then return {1, string.match(found, ' (.*)') or found} end
  redis.call('SET', KEYS[2], claim_after(found))
end
if held == ARGV[3] then
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
else
  redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4])
end
return {0, redis.call('GET', KEYS[2])}
";

/// Removes the lease if the state file `ARGV[1]` holds it.
const RELEASE: &str = r"
local held = redis.call('GET', KEYS[1])
if not held then return 0 end
local read, owner = pcall(cjson.decode, held)
if read and type(owner) == 'table' and owner.state == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
";

/// Removes the claim `ARGV[1]`.
const RETIRE: &str = r"
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
";

/// What the server holds as our claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claim {
    owner: LeaseOwner,
    text: String,
}

impl Claim {
    /// Returns the whole value of the key.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Returns what markers carry.
    pub(super) fn token(&self) -> &str {
        token(&self.text)
    }
}

fn token(claim: &str) -> &str {
    claim.split(' ').next().unwrap_or_default()
}

/// Returns the token of the claim `found` if `run` set it.
pub(super) fn token_of_run(found: &[u8], run: &ids::RunId) -> Option<String> {
    let (token, owner) = std::str::from_utf8(found).ok()?.split_once(' ')?;
    let owner: LeaseOwner = serde_json::from_str(owner).ok()?;
    (owner.run == *run).then(|| token.to_owned())
}

/// Lease and claim of this process on one server.
pub(super) struct Tenure {
    server: Arc<Server>,
    keys: Keys,
    /// Our claim, as it was last seen on the server.
    claim: RwLock<Option<Arc<Claim>>>,
    /// Held while the server is asked, so that two writers that miss the claim set it once.
    asking: Mutex<()>,
}

impl Tenure {
    pub(super) fn new(server: Arc<Server>, keys: Keys) -> Self {
        Self {
            server,
            keys,
            claim: RwLock::default(),
            asking: Mutex::default(),
        }
    }

    /// Returns one that holds the claim `text` already.
    #[cfg(any(test, feature = "failpoints"))]
    pub(super) fn holding(text: &str, server: Arc<Server>) -> Self {
        let owner = LeaseOwner {
            state: "9c1f".into(),
            state_path: "/srv/state/shop.sqlite".into(),
            host: "batch-2".into(),
            pid: 4121,
            run: ids::RunId::from_text("7F3K2M"),
        };
        let claim = Claim {
            owner,
            text: text.to_owned(),
        };
        Self {
            claim: RwLock::new(Some(Arc::new(claim))),
            ..Self::new(server, Keys::plain())
        }
    }

    /// Returns what errors call the server.
    pub(super) fn place(&self) -> &str {
        &self.server.place
    }

    /// Returns the names of the keys that belong to it.
    pub(super) fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Returns our claim.
    ///
    /// # Errors
    ///
    /// `Internal` before [`Tenure::take`].
    pub(super) fn claim(&self) -> Result<Arc<Claim>, EdgeError> {
        self.held().ok_or_else(|| {
            EdgeError::new(
                ErrorKind::Internal,
                format!("{} is written to without a lease", self.server.place),
            )
        })
    }

    fn held(&self) -> Option<Arc<Claim>> {
        self.claim
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Takes lease and claim for `owner`, or takes over what its state file holds.
    pub(super) async fn take(&self, owner: &LeaseOwner) -> Result<Lease, EdgeError> {
        let _asking = self.asking.lock().await;
        self.run(TAKE, owner, "").await
    }

    /// Prolongs the lease; takes it again when it ran out, and the claim when it vanished.
    pub(super) async fn renew(&self, owner: &LeaseOwner) -> Result<Lease, EdgeError> {
        let _asking = self.asking.lock().await;
        let claim = self.held();
        self.run(RENEW, owner, claim.as_ref().map_or("", |one| one.text()))
            .await
    }

    /// Sets the claim again after a chunk found another value than `missed` in its place.
    ///
    /// # Errors
    ///
    /// `LeaseLost` when another run has written here.
    pub(super) async fn reclaim(&self, missed: &Claim) -> Result<(), EdgeError> {
        let _asking = self.asking.lock().await;
        let current = self.claim()?;
        if *current != *missed {
            return Ok(());
        }
        match self.run(RENEW, &missed.owner, missed.text()).await? {
            Lease::Held => Ok(()),
            Lease::TakenBy(other) => Err(other.lease_lost(&self.server.place)),
        }
    }

    async fn run(&self, script: &str, owner: &LeaseOwner, claim: &str) -> Result<Lease, EdgeError> {
        let text = serde_json::to_string(owner).map_err(|e| {
            EdgeError::new(ErrorKind::Internal, "the lease cannot be written as JSON").because(e)
        })?;
        let mut eval = ::redis::cmd("EVAL");
        eval.arg([COMMON, script].concat())
            .arg(2)
            .arg(self.keys.lease())
            .arg(self.keys.writer())
            .arg(&owner.state)
            .arg(owner.run.as_str())
            .arg(&text)
            .arg(TTL_MS)
            .arg(ids::RunId::random().as_str())
            .arg(claim);
        let (taken, text): (u8, Vec<u8>) = self.server.ask("the lease", &eval).await?;
        if taken == 1 {
            return self.parse(&text).map(Lease::TakenBy);
        }
        let claim = Claim {
            owner: owner.clone(),
            text: String::from_utf8_lossy(&text).into_owned(),
        };
        *self.claim.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(claim));
        Ok(Lease::Held)
    }

    /// Removes the lease if `owner.state` holds it.
    pub(super) async fn release(&self, owner: &LeaseOwner) -> Result<(), EdgeError> {
        let mut eval = ::redis::cmd("EVAL");
        eval.arg(RELEASE)
            .arg(1)
            .arg(self.keys.lease())
            .arg(&owner.state);
        let _removed: u64 = self.server.ask("to take the lease back", &eval).await?;
        Ok(())
    }

    /// Removes the claim if it is still ours: the run is done.
    pub(super) async fn retire(&self) -> Result<(), EdgeError> {
        let Some(claim) = self.held() else {
            return Ok(());
        };
        let mut eval = ::redis::cmd("EVAL");
        eval.arg(RETIRE)
            .arg(1)
            .arg(self.keys.writer())
            .arg(claim.text());
        let _removed: u64 = self.server.ask("to remove its claim", &eval).await?;
        Ok(())
    }

    /// Returns who holds the lease.
    pub(super) async fn owner(&self) -> Result<Option<LeaseOwner>, EdgeError> {
        let mut get = ::redis::cmd("GET");
        get.arg(self.keys.lease());
        let held: Option<Vec<u8>> = self.server.ask("to show the lease", &get).await?;
        held.map(|held| self.parse(&held)).transpose()
    }

    fn parse(&self, held: &[u8]) -> Result<LeaseOwner, EdgeError> {
        serde_json::from_slice(held).map_err(|_| {
            EdgeError::new(
                ErrorKind::Refused,
                format!(
                    "{} has a key `{}` or `{}` that is not one of rekindle; if nobody needs it, remove it",
                    self.server.place,
                    self.keys.lease(),
                    self.keys.writer()
                ),
            )
        })
    }
}
