//! The steps of a plan: what comes before and after the resources, as it is carried out.

use std::{path::PathBuf, time::Duration};

use secrecy::SecretString;
use serde_json::{Value, json};
use url::Url;
use xxhash_rust::xxh3::xxh3_128;

use super::{Plan, RdsRename, RdsRestore, RdsSnapshot, resolve};
use crate::tls::TlsConfig;

/// A step of `prepare:` or `finish:`.
#[derive(Debug, Clone)]
pub struct Step {
    /// What it does.
    pub kind: StepKind,
    /// How long one attempt at it may take.
    pub within: Duration,
}

/// What a step does.
#[derive(Debug, Clone)]
pub enum StepKind {
    /// Puts the maintenance page up.
    Maintenance(Maintenance),
    /// Takes the page of the `maintenance` before it away.
    MaintenanceOff(Maintenance),
    /// A command of the plan's author.
    Shell(Shell),
    /// Waits until a page answers as it should.
    HttpCheck(HttpCheck),
    /// Waits for a person.
    Approve {
        /// What the person is asked.
        question: String,
    },
    /// Builds a job of the plan's Jenkins.
    JenkinsBuild(JenkinsBuild),
    /// Takes a snapshot of a database instance.
    RdsSnapshot(RdsSnapshot),
    /// Renames a database instance.
    RdsRename(RdsRename),
    /// Restores a database instance.
    RdsRestore(RdsRestore),
}

/// `jenkins:`
#[derive(Debug, Clone)]
pub struct JenkinsConfig {
    /// Where it is, with whatever it takes to get there.
    pub url: SecretString,
    /// Its server: the only form that may be shown.
    pub shown: String,
    /// Who logs in, and the API token.
    pub user: Option<(String, SecretString)>,
    /// What starts the shop's console in a job; may hold a secret.
    pub console: Hidden,
    /// The job of `sync: jenkins`.
    pub job: String,
    /// `tls:`, for `https://`.
    pub tls: Option<TlsConfig>,
}

/// `jenkins_build:`
#[derive(Debug, Clone)]
pub struct JenkinsBuild {
    /// `folder/name`
    pub job: String,
    /// What it runs.
    pub shell: JobShell,
}

/// What a job runs.
#[derive(Debug, Clone)]
pub enum JobShell {
    /// A command of the plan.
    Given(Hidden),
    /// The steps "Execute shell" of another job.
    From(String),
}

/// The commands of a maintenance page.
#[derive(Debug, Clone)]
pub struct Maintenance {
    /// Puts it up.
    pub on: Hidden,
    /// Ends with 0 while it is up.
    pub check: Hidden,
    /// Takes it away.
    pub off: Hidden,
}

/// `shell:`
#[derive(Debug, Clone)]
pub struct Shell {
    /// The command.
    pub run: Hidden,
    /// Ends with 0 where the command has done its work. Without it, the command may be run again.
    pub check: Option<Hidden>,
    /// What reverses it.
    pub undo: Option<Hidden>,
}

/// `http_check:`
#[derive(Debug, Clone)]
pub struct HttpCheck {
    /// The page, with whatever it takes to see it.
    pub url: Hidden,
    /// Its server: the only form that may be shown.
    pub shown: String,
    /// The status that is waited for.
    pub status: u16,
    /// `tls:`, for `https://`.
    pub tls: Option<TlsConfig>,
}

/// A text that may hold a secret: what `sh` runs, or a URL.
#[derive(Debug, Clone)]
pub struct Hidden {
    /// With variables filled in.
    pub text: SecretString,
    /// As typed.
    pub typed: String,
}

impl Hidden {
    /// Returns what a definition holds of it: a password may stand in it, so its hash does.
    fn fingerprint(&self) -> String {
        format!("{:032x}", xxh3_128(self.typed.as_bytes()))
    }

    /// Returns its first word, which names a program and holds no arguments.
    fn program(&self) -> &str {
        self.typed.split_whitespace().next().unwrap_or_default()
    }
}

impl StepKind {
    /// Returns the plan's word for it.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Maintenance(_) => "maintenance",
            Self::MaintenanceOff(_) => "maintenance_off",
            Self::Shell(_) => "shell",
            Self::HttpCheck(_) => "http_check",
            Self::Approve { .. } => "approve",
            Self::JenkinsBuild(_) => "jenkins_build",
            Self::RdsSnapshot(_) => "rds_snapshot",
            Self::RdsRename(_) => "rds_rename",
            Self::RdsRestore(_) => "rds_restore",
        }
    }

    /// Returns whether the source may be another one, or there only then, when the step is done.
    #[must_use]
    pub const fn may_change_source(&self) -> bool {
        match self {
            Self::Shell(_) | Self::JenkinsBuild(_) | Self::RdsRename(_) | Self::RdsRestore(_) => {
                true
            }
            Self::Maintenance(_)
            | Self::MaintenanceOff(_)
            | Self::HttpCheck(_)
            | Self::RdsSnapshot(_)
            | Self::Approve { .. } => false,
        }
    }
}

impl Step {
    /// Returns what people read: `` shell `systemctl` ``. No secrets.
    #[must_use]
    pub fn title(&self) -> String {
        let label = self.kind.label();
        match &self.kind {
            StepKind::Shell(shell) => format!("{label} `{}`", shell.run.program()),
            StepKind::HttpCheck(check) => format!("{label} {}", check.shown),
            StepKind::JenkinsBuild(build) => format!("{label} {}", build.job),
            StepKind::RdsSnapshot(snapshot) => format!("{label} {}", snapshot.instance),
            StepKind::RdsRename(rename) => format!("{label} {} -> {}", rename.instance, rename.to),
            StepKind::RdsRestore(restore) => format!("{label} {}", restore.instance),
            StepKind::Maintenance(_) | StepKind::MaintenanceOff(_) | StepKind::Approve { .. } => {
                label.to_owned()
            }
        }
    }

    /// Returns the definition of the step as JSON with sorted keys, without secrets and without what may change between two
    /// attempts: `{"approve":{"question":"..."}}`.
    #[must_use]
    pub fn definition(&self) -> String {
        let commands = |page: &Maintenance| {
            json!({
                "on": page.on.fingerprint(), "check": page.check.fingerprint(), "off": page.off.fingerprint(),
            })
        };
        let body: Value = match &self.kind {
            StepKind::Maintenance(page) | StepKind::MaintenanceOff(page) => commands(page),
            StepKind::Shell(shell) => json!({
                "run": shell.run.fingerprint(), "check": shell.check.as_ref().map(Hidden::fingerprint),
            }),
            StepKind::HttpCheck(check) => json!({
                "server": check.shown, "url": check.url.fingerprint(), "status": check.status,
            }),
            StepKind::Approve { question } => json!({ "question": question }),
            StepKind::JenkinsBuild(build) => match &build.shell {
                JobShell::Given(command) => {
                    json!({ "job": build.job, "shell": command.fingerprint() })
                }
                JobShell::From(other) => json!({ "job": build.job, "shell_from": other }),
            },
            StepKind::RdsSnapshot(snapshot) => snapshot.definition(),
            StepKind::RdsRename(rename) => rename.definition(),
            StepKind::RdsRestore(restore) => restore.definition(),
        };
        json!({ self.kind.label(): body }).to_string()
    }
}

impl Plan {
    /// Returns the folder of the plan file, absolute: where its commands are run.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        resolve::folder_of(&self.path)
    }

    /// Returns what the instance that is called `name` after the renames of the plan is called before them.
    #[must_use]
    pub fn name_before(&self, name: &str) -> String {
        let steps = self.prepare.iter().chain(&self.finish);
        let mut renames = steps.filter_map(|step| match &step.kind {
            StepKind::RdsRename(rename) => Some(rename),
            _ => None,
        });
        let found = renames.rfind(|rename| rename.to == name);
        found.map_or_else(|| name.to_owned(), |rename| rename.instance.clone())
    }
}

/// Returns scheme, host and port of a URL: what may be shown of it.
pub(super) fn server_of(url: &str) -> Option<String> {
    let url = Url::parse(url).ok()?;
    let port = url
        .port()
        .map_or_else(String::new, |port| format!(":{port}"));
    Some(format!("{}://{}{port}", url.scheme(), url.host_str()?))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use secrecy::ExposeSecret as _;

    use super::*;
    use crate::plan::load;

    fn plan(steps: &str) -> Plan {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plan.yaml");
        let text = format!(
            "version: 1\nname: shop\nsource: {{url: 'sqlite:shop.db'}}\ntargets: {{dump: {{file: {{path: out}}}}}}\n\
             resources: [{{name: url, from: {{table: t, cursor: [id], key: k, value: v}}}}]\n{steps}"
        );
        fs::write(&path, text).unwrap();
        let env = |name: &str| (name == "PW").then(|| "geheim".to_owned());
        load(&path, &env).unwrap().plan
    }

    const STEPS: &str = r#"
prepare:
  - maintenance: { on: "touch flag", check: "test -e flag", off: "rm -f flag" }
  - shell: { run: "deploy --token ${PW} now", repeatable: true, within: 2m }
finish:
  - http_check: { url: "https://me:${PW}@shop.test:8443/de?key=${PW}" }
  - approve: { question: "does it look right?" }
  - maintenance_off: {}
"#;

    #[test]
    fn steps_come_out_in_their_order_with_their_defaults() {
        let plan = plan(STEPS);
        let titles = |steps: &[Step]| steps.iter().map(Step::title).collect::<Vec<_>>();
        assert_eq!(titles(&plan.prepare), ["maintenance", "shell `deploy`"]);
        assert_eq!(
            titles(&plan.finish),
            [
                "http_check https://shop.test:8443",
                "approve",
                "maintenance_off"
            ]
        );
        assert_eq!(plan.prepare[1].within, Duration::from_mins(2));
        assert_eq!(plan.prepare[0].within, Duration::from_mins(45));
        let StepKind::HttpCheck(check) = &plan.finish[0].kind else {
            panic!("{:?}", plan.finish);
        };
        assert_eq!(check.status, 200);
        let StepKind::MaintenanceOff(page) = &plan.finish[2].kind else {
            panic!("{:?}", plan.finish);
        };
        assert_eq!(page.off.text.expose_secret(), "rm -f flag");
    }

    #[test]
    fn definitions_and_titles_hold_no_secret_and_no_limit() {
        let plan = plan(STEPS);
        for step in plan.prepare.iter().chain(&plan.finish) {
            let shown = format!("{}{}{step:?}", step.title(), step.definition());
            assert!(!shown.contains("geheim"), "{shown}");
        }
        let slower = super::tests::plan(&STEPS.replace("within: 2m", "within: 3m"));
        assert_eq!(plan.prepare[1].definition(), slower.prepare[1].definition());
        let other = super::tests::plan(&STEPS.replace("now", "later"));
        assert_ne!(plan.prepare[1].definition(), other.prepare[1].definition());
    }
}
