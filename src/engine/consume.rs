//! Carries messages from the shop's queues to the targets of a plan, in place of `queue:task:start`.
//!
//! ```text
//! queues in the order of the plan, in every vhost, each until it is silent or had its turn, and from the first on again:
//!   batch -> of each key the last message counts -> target -> failed ones to the queue for those -> acknowledged
//! ```
//!
//! A message that nobody can carry out fails alone; it never keeps the others waiting. An error that passes by itself is
//! waited for: the batch is in our hands until it is through.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::retry::Waits;
use crate::{
    broker::{Action, Batch, Intake, Message, Served, Vhost, Vhosts},
    error::{EdgeError, ErrorKind},
    failpoint,
    plan::{Plan, Resource, TargetConfig},
    target::{Applier, Change, Target},
    value::Encoder,
};

/// Messages that are taken from a queue at a time: enough that round trips do not count.
const BATCH: usize = 500;

/// Messages that the broker may send ahead: those in hand, and as many on their way. It counts messages, not bytes, so this
/// is what bounds the memory of a consumer.
const AHEAD: u16 = 1_000;

/// Batches of one queue before the next is looked at, so that one that never runs empty does not keep the others waiting.
const TURN: u32 = 40;

/// How long a queue may be silent that is not empty, or that somebody fills right now, before the next one is looked at, in
/// milliseconds.
const SILENCE_MS: u32 = 250;

/// How long messages are waited for before the broker is asked whether there are any: forty queues without any are through in
/// half a second.
const SOON: Duration = Duration::from_millis(5);

/// How long nothing is done when every queue was empty, in milliseconds.
const REST_MS: u32 = 1_000;

fn silence() -> Duration {
    Duration::from_millis(failpoint::number("consume_silence_ms", SILENCE_MS).into())
}

fn rest() -> Duration {
    Duration::from_millis(failpoint::number("consume_rest_ms", REST_MS).into())
}

/// What to consume, and until when.
pub struct Consume {
    /// The plan.
    pub plan: Arc<Plan>,
    /// The vhosts of its broker.
    pub vhosts: Arc<Vhosts>,
    /// Its targets by name.
    pub targets: BTreeMap<String, Arc<dyn Target>>,
    /// The queues, in the order in which they are served.
    pub queues: Vec<String>,
    /// Whether it ends once all of them are empty.
    pub until_empty: bool,
    /// When it ends.
    pub until: Option<Instant>,
    /// Becomes true when it is to end after the batch in hand.
    pub stop: watch::Receiver<bool>,
}

/// A queue in one vhost.
#[derive(Clone, Copy)]
struct Inlet<'a> {
    vhost: &'a Vhost,
    queue: &'a str,
}

/// One target as messages need it.
struct Outlet {
    applier: Box<dyn Applier>,
    encoder: Encoder,
}

/// How serving one queue ended.
enum Turn {
    /// Nothing came any more; so many messages had come.
    Silent(u64),
    /// Its turn is over, and more may come.
    More,
    /// It is time to end.
    Over,
}

impl Consume {
    /// Consumes until it is told to stop, until its time is over, or until all queues are empty. `told` hears of errors that
    /// are waited for. Returns what became of the messages of each queue.
    ///
    /// # Errors
    ///
    /// An error that does not pass by itself. What was not acknowledged is in its queue.
    pub async fn run(
        self,
        mut told: impl FnMut(&EdgeError, Duration),
    ) -> Result<BTreeMap<String, Served>, (BTreeMap<String, Served>, EdgeError)> {
        let mut served: BTreeMap<String, Served> = BTreeMap::new();
        let mut outlets = HashMap::new();
        let mut waits = Waits::endless(&self.plan.defaults.retry);
        loop {
            match self.pass(&mut outlets, &mut served).await {
                Ok(true) => return Ok(served),
                Ok(false) => waits = Waits::endless(&self.plan.defaults.retry),
                Err(error) if error.kind.disposition().passes() => {
                    // Connections of the target may be half used.
                    outlets.clear();
                    let wait = waits.next().unwrap_or_else(rest);
                    told(&error, wait);
                    if self.rest(wait).await {
                        return Ok(served);
                    }
                }
                Err(error) => return Err((served, error)),
            }
        }
    }

    /// Serves every queue once; returns whether it is time to end.
    async fn pass(
        &self,
        outlets: &mut HashMap<String, Outlet>,
        served: &mut BTreeMap<String, Served>,
    ) -> Result<bool, EdgeError> {
        let (mut any, mut more) = (false, false);
        for inlet in self.inlets() {
            match self.serve(inlet, outlets, served).await? {
                Turn::Over => return Ok(true),
                Turn::Silent(count) => any |= count > 0,
                Turn::More => more = true,
            }
        }
        // What was sent ahead to one whose turn was over may not be back in its queue yet, and be counted nowhere.
        if !more && self.until_empty && self.all_empty().await? {
            return Ok(true);
        }
        if any || more {
            return Ok(false);
        }
        Ok(self.rest(rest()).await)
    }

    fn inlets(&self) -> impl Iterator<Item = Inlet<'_>> {
        self.queues
            .iter()
            .flat_map(|queue| self.vhosts.each().map(move |vhost| Inlet { vhost, queue }))
    }

    async fn all_empty(&self) -> Result<bool, EdgeError> {
        for inlet in self.inlets() {
            if inlet.vhost.broker.depth(inlet.queue).await?.ready > 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Waits; returns whether it is time to end.
    async fn rest(&self, wait: Duration) -> bool {
        let mut stop = self.stop.clone();
        let left = self.until.map_or(wait, |until| {
            until.saturating_duration_since(Instant::now())
        });
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => true,
            () = tokio::time::sleep(wait.min(left)) => self.is_over(),
        }
    }

    fn is_over(&self) -> bool {
        *self.stop.borrow() || self.until.is_some_and(|until| Instant::now() >= until)
    }

    /// Takes messages from a queue until none comes any more.
    async fn serve(
        &self,
        inlet: Inlet<'_>,
        outlets: &mut HashMap<String, Outlet>,
        served: &mut BTreeMap<String, Served>,
    ) -> Result<Turn, EdgeError> {
        if self.is_over() {
            return Ok(Turn::Over);
        }
        let mut intake = Intake::open(&inlet.vhost.broker, inlet.queue, AHEAD).await?;
        let turn = self.turn(inlet, &mut intake, outlets, served).await;
        // Also after an error: what is in hand goes back to the queue.
        intake.close().await;
        turn
    }

    async fn turn(
        &self,
        inlet: Inlet<'_>,
        intake: &mut Intake,
        outlets: &mut HashMap<String, Outlet>,
        served: &mut BTreeMap<String, Served>,
    ) -> Result<Turn, EdgeError> {
        let mut count = 0;
        let is_alone = self.inlets().nth(1).is_none();
        let mut left = TURN;
        while left > 0 {
            // Where nobody else waits, a turn has no end.
            left -= u32::from(!is_alone);
            let mut batch = intake.next(BATCH, SOON).await?;
            if batch.is_empty() {
                let is_done = intake.ready().await? == 0 && (self.until_empty || count == 0);
                let wait = if is_done { Duration::ZERO } else { silence() };
                batch = intake.next(BATCH, wait).await?;
            }
            if batch.is_empty() {
                return Ok(Turn::Silent(count));
            }
            let of_batch = self.carry(inlet, &batch, intake, outlets).await?;
            failpoint::hit("before_consumed").map_err(|error| failpoint_error(&error))?;
            intake.done(&batch).await?;
            let label = self.vhosts.label(inlet.vhost, inlet.queue);
            served.entry(label).or_default().add(of_batch);
            count += of_batch.messages();
            if self.is_over() {
                return Ok(Turn::Over);
            }
        }
        Ok(Turn::More)
    }

    /// Has the targets carry out the messages of `batch`; those that fail go to the queue for them.
    async fn carry(
        &self,
        inlet: Inlet<'_>,
        batch: &Batch,
        intake: &mut Intake,
        outlets: &mut HashMap<String, Outlet>,
    ) -> Result<Served, EdgeError> {
        let mut served = Served::default();
        let mut failed: Vec<(usize, String)> = Vec::new();
        // By target: the last message of each key counts, as when they are carried out one after the other.
        let mut changes: BTreeMap<&str, Vec<(usize, Change)>> = BTreeMap::new();
        let mut places: HashMap<(String, Option<String>), usize> = HashMap::new();
        for (row, body) in batch.bodies().enumerate() {
            match self.change(inlet, body, outlets).await? {
                Err(reason) => failed.push((row, reason)),
                Ok((target, change)) => {
                    let is_search =
                        matches!(self.plan.targets.get(target), Some(TargetConfig::Search(_)));
                    let (written, deleted) = (change.value.is_some(), change.value.is_none());
                    served.written += u64::from(written);
                    served.deleted += u64::from(deleted);
                    let mine = changes.entry(target).or_default();
                    // Storage has one place for a key, whatever its store.
                    let store = change.store.clone().filter(|_| is_search);
                    let name = (format!("{target}\0{}", change.key), store);
                    if let Some(place) = places.get(&name).copied() {
                        mine[place] = (row, change);
                    } else {
                        places.insert(name, mine.len());
                        mine.push((row, change));
                    }
                }
            }
        }
        for (target, mine) in changes {
            let (rows, mine): (Vec<_>, Vec<_>) = mine.into_iter().unzip();
            let outlet = self.outlet(target, outlets).await?;
            for rejected in outlet.applier.apply(&mine).await? {
                let Some(row) = rows.get(rejected.row) else {
                    continue;
                };
                match mine[rejected.row].value {
                    Some(_) => served.written -= 1,
                    None => served.deleted -= 1,
                }
                failed.push((*row, rejected.reason));
            }
        }
        failpoint::hit("after_applied").map_err(|error| failpoint_error(&error))?;
        failed.sort_unstable();
        for (row, reason) in &failed {
            intake.fail(batch, *row, reason).await?;
        }
        served.failed = failed.len() as u64;
        Ok(served)
    }

    /// Returns what a message asks for and of which target, or why nobody can carry it out.
    async fn change<'p>(
        &'p self,
        inlet: Inlet<'_>,
        body: &[u8],
        outlets: &mut HashMap<String, Outlet>,
    ) -> Result<Result<(&'p str, Change), String>, EdgeError> {
        let message = match Message::read(body) {
            Ok(message) => message,
            Err(why) => return Ok(Err(why.to_string())),
        };
        let Some(resource) = taker(&self.plan, inlet.queue, &message) else {
            return Ok(Err(
                "no resource of the plan takes messages of this resource and type from the queue"
                    .to_owned(),
            ));
        };
        let value = match &message.action {
            Action::Delete => None,
            Action::Write(value) => {
                let outlet = self.outlet(&resource.to, outlets).await?;
                match outlet.encoder.encode(value) {
                    Ok(value) => Some(value.to_vec()),
                    Err(broken) => return Ok(Err(broken.to_string())),
                }
            }
        };
        let change = Change {
            resource: resource.name.clone(),
            key: message.key,
            value,
            // One of no store in a vhost that is a store's is that store's, as it is to the shop's workers there.
            store: message.store.or_else(|| inlet.vhost.store.clone()),
        };
        Ok(Ok((&resource.to, change)))
    }

    async fn outlet<'o>(
        &self,
        target: &str,
        outlets: &'o mut HashMap<String, Outlet>,
    ) -> Result<&'o mut Outlet, EdgeError> {
        if !outlets.contains_key(target) {
            let none = || {
                EdgeError::new(
                    ErrorKind::Refused,
                    format!("target `{target}` cannot take single messages"),
                )
            };
            let config = self.targets.get(target).ok_or_else(none)?;
            let applier = config.applier().await?.ok_or_else(none)?;
            let resource = self.plan.resources.iter().find(|one| one.to == target);
            let (form, compression) = resource
                .map(|resource| self.plan.encoding(resource))
                .unwrap_or_default();
            let encoder = Encoder::new(form, compression);
            outlets.insert(target.to_owned(), Outlet { applier, encoder });
        }
        outlets.get_mut(target).ok_or_else(|| {
            EdgeError::new(
                ErrorKind::Internal,
                format!("target `{target}` went missing"),
            )
        })
    }
}

/// Returns the queues of a plan, each once, in the order of its resources.
#[must_use]
pub fn queues(plan: &Plan) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for queue in plan.resources.iter().filter_map(|one| one.queue.as_ref()) {
        if !names.contains(&queue.name) {
            names.push(queue.name.clone());
        }
    }
    names
}

/// Returns the resource of the plan whose place in its target the message goes to.
///
/// A queue of the shop carries more resources than a plan need name. Storage has one place for all of them; an index is
/// found by the type.
fn taker<'p>(plan: &'p Plan, queue: &str, message: &Message) -> Option<&'p Resource> {
    let of_queue: Vec<_> = plan
        .resources
        .iter()
        .filter(|one| one.queue.as_ref().is_some_and(|had| had.name == queue))
        .collect();
    let of_kind = |one: &&&Resource| {
        one.queue
            .as_ref()
            .is_some_and(|had| had.kind == message.kind)
    };
    let named = |one: &&&Resource| {
        one.queue
            .as_ref()
            .is_some_and(|had| had.resource == message.resource)
    };
    of_queue
        .iter()
        .filter(of_kind)
        .find(named)
        .or_else(|| of_queue.iter().find(of_kind))
        .copied()
}

fn failpoint_error(error: &std::io::Error) -> EdgeError {
    EdgeError::new(ErrorKind::Connection, error.to_string())
}
