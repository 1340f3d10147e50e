//! `prepare:` and `finish:`: the steps around the resources.

use super::{Form, Key, TLS, Word, must, now, word};

/// An entry of `prepare:` or `finish:`: exactly one of these.
pub(in crate::plan) const STEP: &[Key] = &[
    now(
        "maintenance",
        Form::Map(MAINTENANCE),
        "Puts the shop's maintenance page up",
    ),
    now(
        "maintenance_off",
        Form::Map(MAINTENANCE_OFF),
        "Takes it away again, by the commands of the `maintenance` before it",
    ),
    now("shell", Form::Map(SHELL), "A command of your own"),
    now(
        "http_check",
        Form::Map(HTTP_CHECK),
        "Waits until a page answers as it should",
    ),
    now(
        "approve",
        Form::Map(APPROVE),
        "Waits until a person types `rekindle approve PLAN`",
    ),
    now(
        "rds_snapshot",
        Form::Map(RDS_SNAPSHOT),
        "Takes a snapshot of a database instance of RDS",
    ),
    now(
        "rds_rename",
        Form::Map(RDS_RENAME),
        "Gives a database instance of RDS another name, so that its own is free",
    ),
    now(
        "rds_restore",
        Form::Map(RDS_RESTORE),
        "Restores a database instance of RDS, with the settings of another one",
    ),
    now(
        "jenkins_build",
        Form::Map(JENKINS_BUILD),
        "Builds a job of the plan's Jenkins that runs a command",
    ),
];

const WITHIN: Key = now("within", Form::Time, "How long one attempt at it may take");

/// `maintenance:`
pub(in crate::plan) const MAINTENANCE: &[Key] = &[
    must("on", Form::Text, "The command that puts the page up"),
    must(
        "check",
        Form::Text,
        "Ends with 0 while the page is up, with another code while it is not",
    ),
    must("off", Form::Text, "The command that takes it away"),
    WITHIN,
];

/// `maintenance_off:`
pub(in crate::plan) const MAINTENANCE_OFF: &[Key] = &[WITHIN];

/// `shell:`
pub(in crate::plan) const SHELL: &[Key] = &[
    must(
        "run",
        Form::Text,
        "What `sh` runs, in the folder of the plan; exit code 0 is success",
    ),
    now(
        "check",
        Form::Text,
        "Ends with 0 where the command has done its work, so that it is not run again",
    ),
    now(
        "repeatable",
        Form::Flag,
        "Instead of `check`: running it twice does no harm",
    ),
    now("undo", Form::Text, "What `rekindle undo` runs"),
    WITHIN,
];

/// `http_check:`
pub(in crate::plan) const HTTP_CHECK: &[Key] = &[
    must("url", Form::Text, "`http://` or `https://`"),
    now("status", Form::Count, "The status that is waited for"),
    now("tls", Form::Map(TLS), "Certificates of the connection"),
    WITHIN,
];

/// `jenkins_build:`
pub(in crate::plan) const JENKINS_BUILD: &[Key] = &[
    must(
        "job",
        Form::Text,
        "The job, `folder/name`; made by rekindle, and never one that somebody else made",
    ),
    now("shell", Form::Text, "What it runs"),
    now(
        "shell_from",
        Form::Text,
        "Instead of `shell`: the job whose steps \"Execute shell\" it runs",
    ),
    WITHIN,
];

/// `rds_snapshot:`
pub(in crate::plan) const RDS_SNAPSHOT: &[Key] = &[
    must("instance", Form::Text, "The database instance"),
    must(
        "name",
        Form::Text,
        "What the snapshot is called; `{date}` and `{run}` are filled in",
    ),
    WITHIN,
];

/// `rds_rename:`
pub(in crate::plan) const RDS_RENAME: &[Key] = &[
    must("instance", Form::Text, "The database instance"),
    must("to", Form::Text, "Its name from then on"),
    now("when", Form::Word(WHEN), "When RDS does it"),
    WITHIN,
];

/// `rds_rename.when`
pub(in crate::plan) const WHEN: &[Word] = &[word("immediately"), word("maintenance_window")];

/// `rds_restore:`
pub(in crate::plan) const RDS_RESTORE: &[Key] = &[
    must("instance", Form::Text, "The name of what is restored"),
    must("from", Form::OneOf(RDS_FROM), "What it is restored from"),
    must(
        "settings_of",
        Form::Text,
        "The instance whose settings it gets",
    ),
    WITHIN,
];

/// `rds_restore.from:`: exactly one of these.
pub(in crate::plan) const RDS_FROM: &[Key] = &[
    now("snapshot", Form::Text, "This snapshot"),
    now(
        "latest",
        Form::Word(LATEST),
        "The newest snapshot of this kind of the instance under `settings_of`",
    ),
    now(
        "time",
        Form::Text,
        "As the instance under `settings_of` was then: `2026-11-21T03:00:00Z`",
    ),
];

/// `rds_restore.from.latest`
pub(in crate::plan) const LATEST: &[Word] = &[word("automated"), word("hourly"), word("manual")];

/// `aws:`
pub(in crate::plan) const AWS: &[Key] = &[
    must("region", Form::Text, "Where the database instances are"),
    now(
        "endpoint",
        Form::Text,
        "Another address of RDS: a private endpoint, or a stand-in of tests",
    ),
    now(
        "hourly",
        Form::Text,
        "What the names of hourly snapshots look like; `*` stands for any text",
    ),
];

/// `jenkins:`
pub(in crate::plan) const JENKINS: &[Key] = &[
    must("url", Form::Text, "`http://` or `https://`"),
    now("user", Form::Text, "Who logs in"),
    now("token", Form::Text, "That user's API token"),
    now(
        "console",
        Form::Text,
        "What starts the shop's console in a job, for `sync: jenkins` and fallbacks",
    ),
    now("job", Form::Text, "The job of `sync: jenkins`"),
    now("tls", Form::Map(TLS), "Certificates of the connection"),
];

/// `approve:`
pub(in crate::plan) const APPROVE: &[Key] = &[
    must("question", Form::Text, "What the person is asked"),
    WITHIN,
];
