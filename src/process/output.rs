//! What a command printed: its end, without known secrets, in a file of its own.

use std::{
    collections::VecDeque,
    env,
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
};

use percent_encoding::percent_decode_str;
use secrecy::ExposeSecret;
use url::Url;

use crate::plan::{Hidden, Plan, PublisherConfig, StepKind, TargetConfig};

/// Bytes of output that are kept: the end says why a command failed.
pub const KEPT: usize = 64 * 1024;

/// Bytes of all calls together that are kept: sixteen of the longest.
const LOGGED: usize = 1024 * 1024;

/// What the line of a call begins with.
const CALL: &str = "=== ";

/// Shorter texts are no secrets worth the name, and would cut words apart.
const SHORTEST: usize = 4;

/// The secrets of a plan, longest first.
#[derive(Clone, Default)]
pub struct Redacted {
    secrets: Vec<Vec<u8>>,
}

impl Redacted {
    /// Returns the passwords in the plan's URLs, as they are typed and as they are meant, those URLs, its API keys, what variables
    /// stand for in its commands where they say that it is a secret, and the secrets of AWS in our environment.
    #[must_use]
    pub fn of(plan: &Plan) -> Self {
        let mut keys = Vec::new();
        let mut urls = vec![plan.source.url.expose_secret().to_owned()];
        for target in plan.targets.values() {
            match target {
                TargetConfig::Redis(redis) => urls.push(redis.url.expose_secret().to_owned()),
                TargetConfig::Search(search) => {
                    urls.extend(search.urls.iter().map(|url| url.expose_secret().to_owned()));
                    keys.extend(
                        search
                            .api_key
                            .as_ref()
                            .map(|key| key.expose_secret().to_owned()),
                    );
                }
                TargetConfig::File(_) => {}
            }
        }
        if let Some(broker) = &plan.broker {
            let own = broker.stores.values();
            urls.extend(
                own.chain([&broker.url])
                    .map(|url| url.expose_secret().to_owned()),
            );
        }
        if let Some(jenkins) = &plan.jenkins {
            urls.push(jenkins.url.expose_secret().to_owned());
            let token = jenkins.user.as_ref().map(|(_, token)| token);
            keys.extend(token.map(|token| token.expose_secret().to_owned()));
        }
        for fallback in plan
            .resources
            .iter()
            .filter_map(|one| one.fallback.as_ref())
        {
            if let PublisherConfig::Sql { url, .. } = &fallback.by {
                urls.push(url.expose_secret().to_owned());
            }
        }
        for (name, value) in scripts(plan).into_iter().flat_map(filled_in) {
            if is_secret_by_name(&name) {
                keys.push(value);
            } else {
                urls.push(value);
            }
        }
        // Commands inherit them.
        let inherited = ["AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];
        keys.extend(inherited.iter().filter_map(|name| env::var(name).ok()));
        Self::in_urls(&urls, keys)
    }

    fn in_urls(urls: &[String], keys: Vec<String>) -> Self {
        let mut secrets: Vec<Vec<u8>> = keys.into_iter().map(String::into_bytes).collect();
        for url in urls {
            let parsed = Url::parse(url).ok();
            if let Some(password) = parsed.as_ref().and_then(Url::password) {
                let meant: Vec<u8> = percent_decode_str(password).collect();
                secrets.extend([url.clone().into_bytes(), password.into(), meant]);
            }
        }
        secrets.retain(|secret| secret.len() >= SHORTEST);
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets.dedup();
        Self { secrets }
    }

    fn longest(&self) -> usize {
        self.secrets.first().map_or(0, Vec::len)
    }

    /// Returns `text` with stars for each secret.
    fn cut(&self, text: &[u8]) -> Vec<u8> {
        let mut cut = Vec::with_capacity(text.len());
        let mut rest = text;
        while let Some(byte) = rest.first() {
            if let Some(secret) = self.secrets.iter().find(|secret| rest.starts_with(secret)) {
                cut.extend_from_slice(b"***");
                rest = &rest[secret.len()..];
            } else {
                cut.push(*byte);
                rest = &rest[1..];
            }
        }
        cut
    }
}

/// Returns the commands of the plan's steps.
fn scripts(plan: &Plan) -> Vec<&Hidden> {
    let steps = plan.prepare.iter().chain(&plan.finish);
    steps.flat_map(|step| commands(&step.kind)).collect()
}

fn commands(kind: &StepKind) -> Vec<&Hidden> {
    match kind {
        StepKind::Maintenance(page) | StepKind::MaintenanceOff(page) => {
            vec![&page.on, &page.check, &page.off]
        }
        StepKind::Shell(shell) => std::iter::once(&shell.run)
            .chain(&shell.check)
            .chain(&shell.undo)
            .collect(),
        _ => Vec::new(),
    }
}

/// Returns the variables of a text by what stands between `${` and `}`, and what was filled in for each.
fn filled_in(hidden: &Hidden) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let (mut typed, mut text) = (hidden.typed.as_str(), hidden.text.expose_secret());
    while let Some((before, rest)) = typed.split_once("${") {
        if let Some(before) = before.strip_suffix('$') {
            // `$${` is no variable.
            let after = text.strip_prefix(before);
            let Some(after) = after.and_then(|after| after.strip_prefix("${")) else {
                break;
            };
            (typed, text) = (rest, after);
            continue;
        }
        let Some((name, after)) = rest.split_once('}') else {
            break;
        };
        let Some(value) = text.strip_prefix(before) else {
            break;
        };
        // Up to the next text that was typed, which has to come after it.
        let next = after.split_once("${").map_or(after, |(next, _)| next);
        let next = next.strip_suffix('$').unwrap_or(next);
        let end = if next.is_empty() {
            if after.is_empty() { value.len() } else { break }
        } else {
            match value.find(next) {
                Some(end) => end,
                None => break,
            }
        };
        found.push((name.to_owned(), value[..end].to_owned()));
        (typed, text) = (after, &value[end..]);
    }
    found
}

/// Returns whether a variable is called like something secret, or is a file, as secrets are.
fn is_secret_by_name(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    let words = ["PASS", "PW", "SECRET", "TOKEN", "KEY", "CREDENTIAL"];
    name.starts_with("FILE:") || words.iter().any(|word| name.contains(word))
}

/// The end of what a command printed.
pub struct Tail {
    bytes: VecDeque<u8>,
    dropped: bool,
    redacted: Redacted,
}

impl Tail {
    /// Returns the end of nothing.
    #[must_use]
    pub fn new(redacted: Redacted) -> Self {
        Self {
            bytes: VecDeque::new(),
            dropped: false,
            redacted,
        }
    }

    /// Takes more output; what is older than the end that is kept goes.
    pub fn push(&mut self, more: &[u8]) {
        self.bytes.extend(more);
        // A secret is looked for in what is kept, so as much more is kept as the longest one has.
        let too_many = self
            .bytes
            .len()
            .saturating_sub(KEPT + self.redacted.longest());
        self.dropped |= too_many > 0;
        self.bytes.drain(..too_many);
    }

    /// Returns the end without secrets.
    pub fn text(&mut self) -> String {
        let redacted = self.redacted.cut(self.bytes.make_contiguous());
        // A secret that was cut apart where the end begins lies within these first bytes.
        let torn = if self.dropped {
            self.redacted.longest().min(redacted.len())
        } else {
            0
        };
        String::from_utf8_lossy(&redacted[torn..]).into_owned()
    }
}

/// Puts what one call printed at the end of the file at `path`, under a line that says which; what is older goes when there is
/// too much of it.
pub fn log(path: &Path, which: &str, text: &str) -> io::Result<()> {
    let before = match fs::symlink_metadata(path) {
        Ok(found) if found.is_file() => fs::read(path)?,
        // Never through a link; it is replaced.
        _ => Vec::new(),
    };
    let mut all = String::from_utf8_lossy(&before).into_owned();
    if !all.is_empty() && !all.ends_with('\n') {
        all.push('\n');
    }
    all += &format!("{CALL}{which}\n{text}");
    if all.len() > LOGGED {
        // Whole calls, the last one in any case.
        let calls = all.match_indices(CALL).map(|(at, _)| at);
        let starts = calls.filter(|at| *at == 0 || all.as_bytes()[at - 1] == b'\n');
        let mut starts = starts.skip_while(|at| all.len() - at > LOGGED).peekable();
        if let Some(at) = starts.peek().copied() {
            all.drain(..at);
        }
    }
    keep(path, &all)
}

/// Replaces the file at `path`, which nobody else may read.
pub fn keep(path: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let half = path.with_extension("log.new");
    // Left over from a process that died; never followed if it is a link.
    match fs::remove_file(&half) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&half)?;
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    file.write_all(text.as_bytes())?;
    fs::rename(&half, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redacted() -> Redacted {
        Redacted::in_urls(
            &["mysql://shop:gehe%40im@db.test/shop".to_owned()],
            vec!["api-key-4711".to_owned()],
        )
    }

    #[test]
    fn secrets_are_cut_out_in_every_spelling() {
        let mut tail = Tail::new(redacted());
        tail.push(b"at mysql://shop:gehe%40im@db.test/shop with gehe");
        tail.push(b"@im or gehe%40im: api-key-4711 refused");
        assert_eq!(tail.text(), "at *** with *** or ***: *** refused");
    }

    #[test]
    fn what_variables_stand_for_in_commands_is_found() {
        let hidden = |typed: &str, text: &str| Hidden {
            typed: typed.to_owned(),
            text: text.to_owned().into(),
        };
        let found = filled_in(&hidden(
            "load ${URL} -p ${DB_PW:-x}; echo $${A} ${file:token}",
            "load mysql://a:b4711@db/x -p geheim; echo ${A} t0ken",
        ));
        let found: Vec<_> = found
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        assert_eq!(
            found,
            [
                ("URL", "mysql://a:b4711@db/x"),
                ("DB_PW:-x", "geheim"),
                ("file:token", "t0ken")
            ]
        );
        assert!(!is_secret_by_name("URL") && is_secret_by_name("DB_PW:-x"));
        assert!(filled_in(&hidden("echo a", "echo a")).is_empty());
    }

    #[test]
    fn the_end_is_kept_and_begins_with_no_half_secret() {
        for shift in 0..60 {
            let mut tail = Tail::new(redacted());
            tail.push(b"mysql://shop:gehe%40im@db.test/shop ");
            tail.push(&vec![b'.'; KEPT - 40 + shift]);
            tail.push(b"the end");
            let text = tail.text();
            assert!(text.len() <= KEPT + 40 && text.ends_with("the end"));
            assert!(
                !text.contains("40im") && !text.contains("db.test"),
                "{shift}"
            );
        }
    }

    #[test]
    fn the_file_is_private_and_has_every_call_that_there_is_room_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state/x.sqlite.publisher.log");
        let said = |call: usize| format!("=== call {call}\n{}\n", "x".repeat(KEPT));
        for call in 0..40 {
            log(&path, &format!("call {call}"), &"x".repeat(KEPT)).unwrap();
            let found = fs::read_to_string(&path).unwrap();
            assert!(found.len() <= LOGGED && found.starts_with("=== call "));
            assert!(found.ends_with(said(call).trim_end()), "{call}");
            let first = (call + 1).saturating_sub(15);
            assert_eq!(found.matches(CALL).count(), call - first + 1);
            assert_eq!(
                fs::metadata(&path).unwrap().permissions().mode() & 0o777,
                0o600
            );
        }
    }
}
