//! Jenkins by its remote API: jobs, builds, consoles. Names the kind of its errors, never retries, decides nothing.
//!
//! ```text
//! crumb (kept with its session, fetched again once when it is refused)
//! job/A/job/B/config.xml                    read, created, replaced
//! job/A/job/B/buildWithParameters           no body that says which build: found again by a parameter
//! queue/api/json, job/.../api/json          where that build is
//! job/.../N/logText/progressiveText?start=  its console, from where the last look ended
//! ```

mod answer;
mod config;
mod job;

use std::{sync::Mutex, time::Duration};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use secrecy::{ExposeSecret, SecretString};

pub use self::{
    answer::{Build, Found, Verdict},
    config::{freestyle, has_parameter, is_ours, shell_steps},
    job::{Ended, OwnJob},
};
use super::http;
use crate::{
    error::{EdgeError, ErrorKind},
    tls::TlsConfig,
};

/// How long one answer may take: a busy Jenkins renders slowly.
const ANSWER: Duration = Duration::from_mins(1);

/// Most bytes of an answer that are read: a list of builds has some kilobytes.
const MOST_BYTES: usize = 8 << 20;

/// What stays as it is in a segment of a path.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// A Jenkins.
pub struct Jenkins {
    client: Client,
    base: String,
    place: String,
    user: Option<(String, SecretString)>,
    crumb: Mutex<Option<Crumb>>,
}

/// What a Jenkins wants to see in a request that changes something.
#[derive(Clone)]
struct Crumb {
    /// Name of the header; `None` where this Jenkins wants none.
    header: Option<(String, String)>,
    /// The session that it counts in.
    cookie: Option<String>,
}

impl Jenkins {
    /// Returns a client for the Jenkins at `url`, which `shown` stands for in texts. Connects to nothing.
    ///
    /// # Errors
    ///
    /// `Refused` for files of `tls` that cannot be used.
    pub fn new(
        url: &str,
        shown: &str,
        user: Option<(String, SecretString)>,
        tls: Option<&TlsConfig>,
    ) -> Result<Self, EdgeError> {
        Ok(Self {
            client: http::client(shown, tls, ANSWER)?,
            base: url.trim_end_matches('/').to_owned(),
            place: format!("jenkins at {shown}"),
            user,
            crumb: Mutex::new(None),
        })
    }

    /// Returns what errors and reports call it.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Returns the definition of `job` (`folder/name`) as XML; `None` where there is no such job.
    pub async fn config(&self, job: &str) -> Result<Option<String>, EdgeError> {
        let answer = self.ask(&format!("{}/config.xml", path_of(job))).await?;
        match answer.status() {
            StatusCode::NOT_FOUND => Ok(None),
            _ => self.text(self.sound(answer)?).await.map(Some),
        }
    }

    /// Makes `job` be defined by `xml`; `exists` says whether it is there. Done twice, it does no harm.
    pub async fn define(&self, job: &str, xml: &str, exists: bool) -> Result<(), EdgeError> {
        let path = if exists {
            format!("{}/config.xml", path_of(job))
        } else {
            let (folder, name) = job.rsplit_once('/').unwrap_or(("", job));
            let name = utf8_percent_encode(name, SEGMENT);
            format!("{}/createItem?name={name}", path_of(folder))
        };
        let body = xml.to_owned();
        let request = move |request: RequestBuilder| {
            request
                .header("content-type", "application/xml; charset=utf-8")
                .body(body.clone())
        };
        self.change(&path, request).await.map(drop)
    }

    /// Asks for a build of `job` with these parameters. Which build it becomes is not said: [`find`](Self::find) it by
    /// one of them. After an error it may have been asked for all the same.
    pub async fn build(&self, job: &str, parameters: &[(&str, &str)]) -> Result<(), EdgeError> {
        let body = form(parameters);
        let request = move |request: RequestBuilder| {
            request
                .header("content-type", "application/x-www-form-urlencoded")
                .body(body.clone())
        };
        // At once: nobody else is about to change what is built.
        let path = format!("{}/buildWithParameters?delay=0sec", path_of(job));
        self.change(&path, request).await.map(drop)
    }

    /// Returns the latest build of `job` after number `after` with `parameter` = `value`, in the queue or begun.
    pub async fn find(
        &self,
        job: &str,
        parameter: &str,
        value: &str,
        after: u64,
    ) -> Result<Option<Found>, EdgeError> {
        // Builds come after the queue: one that leaves it in between is seen in one of them at least.
        let queue = "/queue/api/json?tree=items[why,cancelled,task[url],params,actions[parameters[name,value]]]";
        let queue = self.json(queue).await?;
        // The latest hundred: a range in the tree is not known to every relative of Jenkins.
        let builds = format!(
            "{}/api/json?tree=builds[number,building,result,actions[parameters[name,value]]]",
            path_of(job)
        );
        let builds = match self.ask(&builds).await? {
            // A job that is not there has no builds.
            answer if answer.status() == StatusCode::NOT_FOUND => return Ok(None),
            answer => {
                let text = self.text(self.sound(answer)?).await?;
                self.parsed(&text)?
            }
        };
        if let Some(build) = answer::built(&builds, parameter, value, after) {
            return Ok(Some(Found::Build(build)));
        }
        let waits = answer::queued(&queue, &path_of(job), parameter, value);
        Ok(waits.map(Found::Queued))
    }

    /// Returns where build `number` of `job` stands; `None` where it is gone.
    pub async fn state(&self, job: &str, number: u64) -> Result<Option<Build>, EdgeError> {
        let path = format!(
            "{}/{number}/api/json?tree=number,building,result",
            path_of(job)
        );
        let answer = self.ask(&path).await?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let text = self.text(self.sound(answer)?).await?;
        Ok(answer::build(&self.parsed(&text)?))
    }

    /// Returns what build `number` of `job` printed from `start` on, and where the next look begins.
    pub async fn console(
        &self,
        job: &str,
        number: u64,
        start: u64,
    ) -> Result<(String, u64), EdgeError> {
        let path = format!(
            "{}/{number}/logText/progressiveText?start={start}",
            path_of(job)
        );
        let answer = self.sound(self.ask(&path).await?)?;
        let size = answer.headers().get("x-text-size");
        let size = size.and_then(|size| size.to_str().ok()?.parse().ok());
        let text = self.text(answer).await?;
        // It ends lines as HTTP does; in a file beside the state they end as everywhere. Without the header, what came is all
        // that is known.
        Ok((text.replace("\r\n", "\n"), size.unwrap_or(start)))
    }

    async fn json(&self, path: &str) -> Result<serde_json::Value, EdgeError> {
        let answer = self.sound(self.ask(path).await?)?;
        let text = self.text(answer).await?;
        self.parsed(&text)
    }

    fn parsed(&self, text: &str) -> Result<serde_json::Value, EdgeError> {
        // A proxy's page of HTML, an answer that was cut: neither yes nor no.
        serde_json::from_str(text).map_err(|_| {
            EdgeError::new(
                ErrorKind::Busy,
                format!("{} answered with something that is no JSON", self.place),
            )
        })
    }

    async fn ask(&self, path: &str) -> Result<Response, EdgeError> {
        self.send(self.request(Method::GET, path)).await
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.base));
        match &self.user {
            Some((user, token)) => request.basic_auth(user, Some(token.expose_secret())),
            None => request,
        }
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, EdgeError> {
        request
            .send()
            .await
            .map_err(|error| http::unanswered(&self.place, error))
    }

    /// Sends a request that changes something, with a crumb; a crumb that is refused is fetched again, once.
    async fn change(
        &self,
        path: &str,
        with: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, EdgeError> {
        for fresh in [false, true] {
            let crumb = self.crumb(fresh).await?;
            let mut request = with(self.request(Method::POST, path));
            if let Some((name, value)) = &crumb.header {
                request = request.header(name, value);
            }
            if let Some(cookie) = &crumb.cookie {
                request = request.header("cookie", cookie);
            }
            let answer = self.send(request).await?;
            // Refused before anything was done, so that asking again is safe.
            if fresh || answer.status() != StatusCode::FORBIDDEN {
                return self.sound(answer);
            }
        }
        Err(EdgeError::new(
            ErrorKind::Internal,
            "a crumb was tried neither once nor twice",
        ))
    }

    async fn crumb(&self, fresh: bool) -> Result<Crumb, EdgeError> {
        if !fresh
            && let Ok(kept) = self.crumb.lock()
            && let Some(crumb) = kept.as_ref()
        {
            return Ok(crumb.clone());
        }
        let answer = self.ask("/crumbIssuer/api/json").await?;
        let crumb = if answer.status() == StatusCode::NOT_FOUND {
            Crumb {
                header: None,
                cookie: None,
            }
        } else {
            let answer = self.sound(answer)?;
            let cookie = answer.headers().get("set-cookie");
            let cookie = cookie
                .and_then(|cookie| cookie.to_str().ok()?.split(';').next())
                .map(str::to_owned);
            let text = self.text(answer).await?;
            Crumb {
                header: answer::crumb(&self.parsed(&text)?),
                cookie,
            }
        };
        if let Ok(mut kept) = self.crumb.lock() {
            *kept = Some(crumb.clone());
        }
        Ok(crumb)
    }

    /// Returns an answer that says yes.
    fn sound(&self, answer: Response) -> Result<Response, EdgeError> {
        let status = answer.status();
        // Hudson and Jenkins answer changes with a redirect to what was changed.
        if status.is_success() || status.is_redirection() {
            return Ok(answer);
        }
        let (kind, why) = match status.as_u16() {
            401 => (ErrorKind::Credentials, "user or token are wrong"),
            403 => (ErrorKind::Credentials, "this user may not do that"),
            404 => (ErrorKind::Missing, "there is no such job or build"),
            408 | 429 | 500 | 502..=504 => (ErrorKind::Busy, "try again later"),
            _ => (ErrorKind::Refused, "it will not do that"),
        };
        Err(EdgeError::new(
            kind,
            format!("{} answered {}: {why}", self.place, status.as_u16()),
        ))
    }

    async fn text(&self, mut answer: Response) -> Result<String, EdgeError> {
        let mut bytes = Vec::new();
        loop {
            let more = answer.chunk().await;
            let more = more.map_err(|error| http::unanswered(&self.place, error))?;
            let Some(more) = more else { break };
            bytes.extend_from_slice(&more);
            if bytes.len() > MOST_BYTES {
                return Err(EdgeError::new(
                    ErrorKind::Refused,
                    format!("{} answered with more than 8 MiB", self.place),
                ));
            }
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// Returns the path of a job in folders: `/job/a/job/b`. Empty for the top.
fn path_of(job: &str) -> String {
    let parts = job.split('/').filter(|part| !part.is_empty());
    let parts = parts.map(|part| format!("/job/{}", utf8_percent_encode(part, SEGMENT)));
    parts.collect::<Vec<_>>().concat()
}

fn form(parameters: &[(&str, &str)]) -> String {
    let pairs = parameters.iter().map(|(name, value)| {
        let (name, value) = (
            utf8_percent_encode(name, SEGMENT),
            utf8_percent_encode(value, SEGMENT),
        );
        format!("{name}={value}")
    });
    pairs.collect::<Vec<_>>().join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_lie_in_folders_whatever_their_names_hold() {
        assert_eq!(path_of("resync"), "/job/resync");
        assert_eq!(path_of("shop/de 1/a?b"), "/job/shop/job/de%201/job/a%3Fb");
        assert_eq!(path_of(""), "");
    }

    #[test]
    fn values_of_a_form_cannot_be_anything_else() {
        let form = form(&[("TOKEN", "a&b=c d%"), ("X", "ü")]);
        assert_eq!(form, "TOKEN=a%26b%3Dc%20d%25&X=%C3%BC");
    }
}
