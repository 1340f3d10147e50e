//! A Jenkins as today's are: crumbs that count in their session, a queue, builds that take their time. What it was asked
//! to change is counted; replies can be dropped after the work was done.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

/// What it knows, and what happened.
#[derive(Default)]
pub struct Known {
    /// Definitions by path: `/job/a/job/b`.
    pub jobs: BTreeMap<String, String>,
    /// Job and token of builds in the queue.
    pub queue: Vec<(String, String)>,
    pub builds: Vec<Build>,
    /// How a build ends, in turn; the last for ever.
    pub verdicts: Vec<&'static str>,
    /// How often a queue is looked at before a build begins, and a build before it ends.
    pub patience: u32,
    /// Requests that changed something, `POST /createItem` and the like.
    pub changes: Vec<String>,
    /// The next reply to a change whose path ends like this is never sent.
    pub drop_reply: Option<&'static str>,
    /// The session that counts: another one's crumb is refused.
    pub session: u32,
    /// How many builds are cancelled as they leave the queue: nothing is left of them.
    pub cancelled: u32,
    /// For how many looks a build that was asked for is neither in the queue nor among the builds.
    pub unseen: u32,
    /// Whether a session ends with each change.
    pub restless: bool,
    /// Changes that were refused for their crumb.
    pub refused: u32,
    looks: u32,
}

pub struct Build {
    pub job: String,
    pub token: String,
    pub verdict: &'static str,
    looks: u32,
}

/// Starts one; returns its URL and what it knows.
pub fn start() -> (String, Arc<Mutex<Known>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let known = Arc::new(Mutex::new(Known::new()));
    let shared = Arc::clone(&known);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let shared = Arc::clone(&shared);
            thread::spawn(move || serve(stream.unwrap(), &shared));
        }
    });
    (url, known)
}

struct Asked {
    method: String,
    path: String,
    headers: BTreeMap<String, String>,
    body: String,
}

fn read(stream: &TcpStream) -> Option<Asked> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let length = headers.get("content-length");
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    reader.read_exact(&mut body).ok()?;
    let body = String::from_utf8(body).ok()?;
    Some(Asked {
        method,
        path,
        headers,
        body,
    })
}

fn serve(mut stream: TcpStream, known: &Mutex<Known>) {
    let Some(asked) = read(&stream) else { return };
    let mut known = known.lock().unwrap();
    let (status, headers, body) = known.answer(&asked);
    let path = asked.path.split('?').next().unwrap_or_default();
    if asked.method == "POST" && known.drop_reply.is_some_and(|end| path.ends_with(end)) {
        known.drop_reply = None;
        return;
    }
    let _ = write!(
        stream,
        "HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n{body}",
        body.len()
    );
}

type Answer = (u16, String, String);

fn json(value: &serde_json::Value) -> Answer {
    (200, String::new(), value.to_string())
}

fn nothing(status: u16) -> Answer {
    (status, String::new(), String::new())
}

impl Known {
    /// Returns what one without jobs knows.
    pub fn new() -> Self {
        Self {
            verdicts: vec!["SUCCESS"],
            patience: 1,
            session: 1,
            ..Self::default()
        }
    }

    fn answer(&mut self, asked: &Asked) -> Answer {
        let authorized = "Basic ZGVwbG95OmdlaGVpbQ==";
        if asked.headers.get("authorization").map(String::as_str) != Some(authorized) {
            return nothing(401);
        }
        let path = asked.path.split('?').next().unwrap_or_default();
        if asked.method == "POST" {
            let crumb = format!("crumb-{}", self.session);
            let cookie = format!("JSESSIONID=s{}", self.session);
            let headers = &asked.headers;
            if headers.get("jenkins-crumb") != Some(&crumb)
                || headers.get("cookie") != Some(&cookie)
            {
                self.refused += 1;
                return nothing(403);
            }
            self.changes.push(path.to_owned());
            self.session += u32::from(self.restless);
            return self.change(asked, path);
        }
        if path == "/crumbIssuer/api/json" {
            let body = serde_json::json!({
                "crumbRequestField": "Jenkins-Crumb", "crumb": format!("crumb-{}", self.session),
            });
            let cookie = format!(
                "set-cookie: JSESSIONID=s{}; Path=/; HttpOnly\r\n",
                self.session
            );
            return (200, cookie, body.to_string());
        }
        if path == "/queue/api/json" {
            return json(&self.queue());
        }
        if let Some(job) = path.strip_suffix("/config.xml") {
            let found = self.jobs.get(job).cloned();
            return found.map_or_else(|| nothing(404), |xml| (200, String::new(), xml));
        }
        if let Some(job) = path.strip_suffix("/api/json") {
            if self.jobs.contains_key(job) {
                return json(&self.builds(job));
            }
            let Some((job, number)) = job.rsplit_once('/') else {
                return nothing(404);
            };
            return self.build(job, number);
        }
        if path.ends_with("/logText/progressiveText") {
            let start: usize = asked.path.rsplit_once("start=").unwrap().1.parse().unwrap();
            let text = "step 1\nstep 2 with geheim\n";
            let size = format!("x-text-size: {}\r\n", text.len());
            return (200, size, text[start.min(text.len())..].to_owned());
        }
        nothing(404)
    }

    fn change(&mut self, asked: &Asked, path: &str) -> Answer {
        if let Some(folder) = path.strip_suffix("/createItem") {
            let name = asked.path.rsplit_once("name=").unwrap().1;
            let job = format!("{folder}/job/{name}");
            let taken = self.jobs.insert(job, asked.body.clone()).is_some();
            return nothing(if taken { 400 } else { 200 });
        }
        if let Some(job) = path.strip_suffix("/config.xml") {
            self.jobs.insert(job.to_owned(), asked.body.clone());
            return nothing(200);
        }
        if let Some(job) = path.strip_suffix("/buildWithParameters") {
            if !self.jobs.contains_key(job) {
                return nothing(404);
            }
            let token = asked.body.strip_prefix("REKINDLE_RUN=").unwrap();
            self.queue.push((job.to_owned(), token.to_owned()));
            return (
                201,
                "location: http://x/queue/item/7/\r\n".to_owned(),
                String::new(),
            );
        }
        nothing(404)
    }

    fn queue(&mut self) -> serde_json::Value {
        if !self.queue.is_empty() && self.unseen > 0 {
            self.unseen -= 1;
            return serde_json::json!({ "items": [] });
        }
        self.looks += 1;
        if !self.queue.is_empty() && self.looks > self.patience {
            self.looks = 0;
            let (job, token) = self.queue.remove(0);
            if self.cancelled > 0 {
                self.cancelled -= 1;
                return serde_json::json!({ "items": [] });
            }
            let verdict = if self.verdicts.len() > 1 {
                self.verdicts.remove(0)
            } else {
                self.verdicts[0]
            };
            self.builds.push(Build {
                job,
                token,
                verdict,
                looks: 0,
            });
        }
        let items = self.queue.iter().map(|(job, token)| {
            serde_json::json!({
                "why": "Waiting for next available executor", "task": { "url": format!("http://x{job}/") },
                "actions": [{ "parameters": [{ "name": "REKINDLE_RUN", "value": token }] }],
            })
        });
        serde_json::json!({ "items": items.collect::<Vec<_>>() })
    }

    fn builds(&self, job: &str) -> serde_json::Value {
        let builds = self.builds.iter().enumerate().rev();
        let of_job = builds.filter(|(_, build)| build.job == job);
        let shown = of_job.map(|(index, build)| {
            let mut shown = self.shown(index);
            shown["actions"] = serde_json::json!([
                {}, { "parameters": [{ "name": "REKINDLE_RUN", "value": build.token }] },
            ]);
            shown
        });
        serde_json::json!({ "builds": shown.collect::<Vec<_>>() })
    }

    fn build(&mut self, job: &str, number: &str) -> Answer {
        let Some(index) = number.parse::<usize>().ok().and_then(|n| n.checked_sub(1)) else {
            return nothing(404);
        };
        match self.builds.get_mut(index) {
            Some(build) if build.job == job => {
                build.looks += 1;
                json(&self.shown(index))
            }
            _ => nothing(404),
        }
    }

    fn shown(&self, index: usize) -> serde_json::Value {
        let build = &self.builds[index];
        let building = build.looks <= self.patience;
        serde_json::json!({
            "number": index + 1, "building": building,
            "result": if building { serde_json::Value::Null } else { build.verdict.into() },
        })
    }
}
