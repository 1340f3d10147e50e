//! The command line. Doc comments are the help texts.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::draft::Preset;

/// Fill Redis and search read models again from the database they were built from, and survive being killed anywhere
#[derive(Debug, Parser)]
#[command(name = "rekindle", version, about, max_term_width = 100)]
#[command(
    after_help = "Exit codes: 0 done, 1 bug, 2 usage, 3 plan invalid or refused before the first write, \
    4 done with dead letters,\n5 stopped or blocked (`run` goes on), 6 state file or target in use, 7 differences \
    found, 130 interrupted (`run` goes on)"
)]
pub struct Arguments {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Option<Command>,
}

#[derive(Debug, Args)]
pub struct Global {
    /// State file [default: state/<plan name>.sqlite beside the plan]
    #[arg(long, global = true, value_name = "FILE")]
    pub state: Option<PathBuf>,
    /// Print JSON instead of text
    #[arg(long, global = true)]
    pub json: bool,
    /// Log to stderr from this level on: error, warn, info, debug, trace
    #[arg(long, global = true, value_name = "LEVEL", default_value = "warn")]
    pub log: String,
    /// Form of log lines
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "FORMAT",
        default_value = "text"
    )]
    pub log_format: LogFormat,
    /// When to use colours; `auto` honours NO_COLOR
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "WHEN",
        default_value = "auto"
    )]
    pub color: ColorWhen,
    /// Plain lines instead of progress bars
    #[arg(long, global = true)]
    pub no_progress: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ColorWhen {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a plan from what a database holds
    Init(Init),
    /// Check a plan; writes nothing anywhere
    Validate(Validate),
    /// Restore what the plan names, going on where an unfinished run stopped
    Run(Run),
    /// Go on with an unfinished run; refuses when nothing waits
    Resume(Resume),
    /// Compare what the targets hold with the source, row by row
    Verify(Verify),
    /// Look at everything a run depends on, and say what to type about what is found
    Doctor(Doctor),
    /// Show where the plan's run stands
    Status(Status),
    /// Stop moving rows until `unpause`; the run keeps its place and its leases
    Pause(PlanOnly),
    /// Let a paused run go on
    Unpause(PlanOnly),
    /// Answer the step that asks a person
    Approve(PlanOnly),
    /// Show how the steps of a run are reversed, and reverse them, the last one first
    Undo(Undo),
    /// List what a database instance of RDS can be restored from, newest first
    Snapshots(PlanOnly),
    /// List the runs of a plan
    History(History),
    /// Tell the story of one run
    Show(Show),
    /// Look at rows that could not be restored
    DeadLetters(DeadLetters),
    /// Have the shop's own publisher regenerate rows of a resource, by hand
    Trigger(Trigger),
    /// Carry messages from the shop's queues to the targets, in place of `queue:task:start`
    Consume(Consume),
    /// Say what the code of a plan's problem means, and show a plan without it
    Explain(Explain),
    /// Print the JSON Schema of plans, for editors
    Schema,
    /// Print the completions of a shell
    Completions(Completions),
    /// Print the manual page, or write a page for each command into a folder
    Man(Man),
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  rekindle explain plan::unknown-key\n  rekindle explain cycle")]
pub struct Explain {
    /// The code, with or without `plan::`; without it, every code there is
    pub code: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  rekindle completions bash > /etc/bash_completion.d/rekindle")]
pub struct Completions {
    /// Which shell
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  rekindle man | man -l -\n  rekindle man /usr/local/share/man/man1"
)]
pub struct Man {
    /// A folder; made where there is none
    pub folder: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  rekindle init --source '${DATABASE_URL}' -o plans/shop.yaml\n  \
    rekindle init --source '${DATABASE_URL}' --preset spryker -o plans/shop.yaml\n  \
    rekindle init --source sqlite:shop.db"
)]
pub struct Init {
    /// The database: mysql://, postgres:// or sqlite:; `${NAME}` is filled in, so that no password is typed here
    #[arg(long, value_name = "URL")]
    pub source: String,
    /// Whose tables these are: their names, entities and index types are known then
    #[arg(long, value_enum, value_name = "NAME")]
    pub preset: Option<Preset>,
    /// Write the plan to this file, whose name becomes the plan's [default: stdout]
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Overwrite FILE if it is there
    #[arg(long, requires = "output")]
    pub force: bool,
}

#[derive(Debug, Args)]
pub struct Validate {
    /// The plan file
    pub plan: PathBuf,
    /// Only what needs no server
    #[arg(long)]
    pub offline: bool,
    /// Warnings count as errors
    #[arg(long)]
    pub strict: bool,
}

#[derive(Debug, Args)]
#[expect(
    clippy::struct_field_names,
    clippy::struct_excessive_bools,
    reason = "`dry_run` is what the flag is called, and each flag is a choice of its own"
)]
#[command(
    after_help = "Examples:\n  rekindle run plans/shop.yaml --dry-run\n  rekindle run plans/shop.yaml\n  \
    rekindle run plans/shop.yaml --only url,cms_block\n  rekindle run plans/shop.yaml --only url --ids 17,18,19"
)]
pub struct Run {
    /// The plan file
    pub plan: PathBuf,
    /// Connect and read only: show what a run would do
    #[arg(long)]
    pub dry_run: bool,
    /// With --dry-run: warnings count as errors
    #[arg(long, requires = "dry_run")]
    pub strict: bool,
    /// Only these resources
    #[arg(long, value_name = "R,..", value_delimiter = ',')]
    pub only: Vec<String>,
    /// All but these resources
    #[arg(long, value_name = "R,..", value_delimiter = ',')]
    pub skip: Vec<String>,
    /// Only rows of these entity ids: a JSON array or a comma list
    #[arg(long, value_name = "JSON-OR-LIST")]
    pub ids: Option<String>,
    /// Begin a new run even where one is unfinished
    #[arg(long)]
    pub new: bool,
    /// Start resources over whose definition changed since the run began
    #[arg(long)]
    pub accept_plan_change: bool,
    #[command(flatten)]
    pub renames: Renames,
    #[command(flatten)]
    pub worker: Worker,
}

/// Consent to what cannot simply be taken back.
#[derive(Debug, Args)]
pub struct Renames {
    /// Agree that steps rename or restore the database instance of this name
    #[arg(long = "yes-rename", value_name = "NAME")]
    pub agreed: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Resume {
    /// The plan file
    pub plan: PathBuf,
    /// Start resources over whose definition changed since the run began
    #[arg(long)]
    pub accept_plan_change: bool,
    #[command(flatten)]
    pub renames: Renames,
    #[command(flatten)]
    pub worker: Worker,
}

/// How the working process is run; for the parent and for tests.
#[derive(Debug, Clone, Copy, Args)]
pub struct Worker {
    /// Work in this process, without a parent that watches
    #[arg(long, hide = true)]
    pub single_process: bool,
    /// Memory budget, given by the parent
    #[arg(long, hide = true, value_name = "N")]
    pub in_flight_bytes: Option<u64>,
    /// Longest row that is read, given by the parent
    #[arg(long, hide = true, value_name = "N")]
    pub longest_row_bytes: Option<u64>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  rekindle verify plans/shop.yaml\n  rekindle verify plans/shop.yaml --level sample --only url\n  \
    rekindle verify plans/shop.yaml --repair\n  rekindle verify plans/shop.yaml --orphans --prune"
)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each flag is a choice of its own"
)]
pub struct Verify {
    /// The plan file
    pub plan: PathBuf,
    /// How much is compared: whether each row is there, the content of some rows, the content of all
    #[arg(long, value_enum, value_name = "LEVEL", default_value = "full")]
    pub level: VerifyLevel,
    /// Rewrite rows that are missing or different, and nothing else
    #[arg(long)]
    pub repair: bool,
    /// Look for keys and documents that no row owns, too
    #[arg(long)]
    pub orphans: bool,
    /// Remove them, after each was looked for in the source once more; asks first
    #[arg(long)]
    pub prune: bool,
    /// Do not ask
    #[arg(long, requires = "prune")]
    pub yes: bool,
    /// Only these resources
    #[arg(long, value_name = "R,..", value_delimiter = ',')]
    pub only: Vec<String>,
    /// All but these resources
    #[arg(long, value_name = "R,..", value_delimiter = ',')]
    pub skip: Vec<String>,
    /// Begin anew even where a comparison was interrupted
    #[arg(long)]
    pub new: bool,
    // Typed by whoever knows it from `run`: to be told what does the same here.
    #[arg(long, hide = true)]
    pub dry_run: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum VerifyLevel {
    Presence,
    Sample,
    Full,
}

#[derive(Debug, Args)]
pub struct Doctor {
    /// The plan file; without it, every state file in ./state, and no server
    pub plan: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Status {
    /// The plan file; without it, every state file in ./state
    pub plan: Option<PathBuf>,
    /// Repeat every second until the run ends
    #[arg(long)]
    pub watch: bool,
}

#[derive(Debug, Args)]
pub struct PlanOnly {
    /// The plan file
    pub plan: PathBuf,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  rekindle undo plans/shop.yaml\n  rekindle undo plans/shop.yaml --yes"
)]
pub struct Undo {
    /// The plan file
    pub plan: PathBuf,
    /// The run to reverse, as `history` lists it: has to be named where a later one was reversed already
    #[arg(long, value_name = "ID")]
    pub run: Option<String>,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
}

#[derive(Debug, Args)]
pub struct History {
    /// The plan file; without it, every state file in ./state
    pub plan: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Show {
    /// The run's id, as `history` lists it, or a plan file, whose latest run is shown [default: the latest run]
    pub id: Option<String>,
    /// The plan file; without it, every state file in ./state
    pub plan: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  rekindle trigger plans/shop.yaml -r url -i 17,18,19\n  \
    rekindle trigger plans/shop.yaml -r url --dry-run"
)]
pub struct Trigger {
    /// The plan file
    pub plan: PathBuf,
    /// The resource whose publisher is called
    #[arg(long, short, value_name = "R")]
    pub resource: String,
    /// Only these entity ids: a JSON array or a comma list [default: every id of `fallback.ids`]
    #[arg(long, short, value_name = "IDS")]
    pub ids: Option<String>,
    /// Show the calls and make none
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  rekindle consume plans/shop.yaml --until-empty\n  \
    rekindle consume plans/shop.yaml --queue sync.storage.url --for 10m"
)]
pub struct Consume {
    /// The plan file
    pub plan: PathBuf,
    /// Only this queue; may be given several times [default: every queue of the plan, in its order]
    #[arg(long, value_name = "Q")]
    pub queue: Vec<String>,
    /// End when all of them are empty
    #[arg(long)]
    pub until_empty: bool,
    /// End after this time: `90s`, `10m`
    #[arg(long, value_name = "TIME")]
    pub r#for: Option<String>,
}

#[derive(Debug, Args)]
pub struct DeadLetters {
    #[command(subcommand)]
    pub command: DeadLettersCommand,
}

#[derive(Debug, Subcommand)]
pub enum DeadLettersCommand {
    /// Count dead letters by resource and reason
    List(DeadLettersOf),
    /// Show each dead letter: where it is, its key, and why
    Show(DeadLettersShow),
    /// Read those rows and all others of their entities again and restore them, once they are mended in the source
    Retry(DeadLettersRetry),
    /// Let rows go: they stay out of the target, and are no dead letters any more
    Drop(DeadLettersDrop),
    /// Count the messages that consumers put aside, in the `.error` queue of each queue of the plan
    Queues(DeadLettersQueues),
    /// Put those messages back into their queues, once the cause is mended
    Replay(DeadLettersQueues),
}

#[derive(Debug, Args)]
pub struct DeadLettersQueues {
    /// The plan file
    pub plan: PathBuf,
    /// Only of this queue; may be given several times [default: every queue of the plan]
    #[arg(long, value_name = "Q")]
    pub queue: Vec<String>,
}

#[derive(Debug, Args)]
pub struct DeadLettersOf {
    /// The plan file
    pub plan: PathBuf,
    /// Only of this resource
    #[arg(long, short, value_name = "R")]
    pub resource: Option<String>,
    /// Only of this kind, as `list` names it
    #[arg(long, value_name = "KIND")]
    pub kind: Option<String>,
    /// Only rows whose key begins like this
    #[arg(long, value_name = "TEXT")]
    pub key_prefix: Option<String>,
    /// Of this run [default: the latest, and the retries since]
    #[arg(long, value_name = "ID")]
    pub run: Option<String>,
}

#[derive(Debug, Args)]
pub struct DeadLettersShow {
    #[command(flatten)]
    pub of: DeadLettersOf,
    /// Show at most so many
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub limit: u64,
    /// Write all of them to a new file, one JSON object a line
    #[arg(long, value_name = "FILE")]
    pub export: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct DeadLettersRetry {
    #[command(flatten)]
    pub of: DeadLettersOf,
    /// Give up a retry that is not finished, and begin anew
    #[arg(long)]
    pub new: bool,
    #[command(flatten)]
    pub worker: Worker,
}

#[derive(Debug, Args)]
pub struct DeadLettersDrop {
    #[command(flatten)]
    pub of: DeadLettersOf,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
}
