//! A private `redis-server` for one test: own port, own folder, gone with the test.

use std::{
    io::{BufRead, BufReader},
    net::TcpListener,
    process::{Child, ChildStdout, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use redis::{Cmd, FromRedisValue};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// How long a server may take to start, also on a machine under load.
const START: Duration = Duration::from_secs(30);

/// A running (or stopped) server.
pub struct RedisServer {
    folder: TempDir,
    port: u16,
    options: Vec<String>,
    child: Option<Child>,
}

impl RedisServer {
    /// Starts an empty server that saves nothing by itself.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a server with more options: `["--requirepass", "secret"]`.
    pub fn start_with(options: &[&str]) -> Self {
        let mut server = Self {
            folder: TempDir::new().expect("a folder for redis"),
            port: 0,
            options: options.iter().map(ToString::to_string).collect(),
            child: None,
        };
        // Another process may take the port between our look and the server's; then the server ends at once.
        for _ in 0..5 {
            server.port = free_port();
            if server.try_launch() {
                return server;
            }
        }
        panic!("redis-server did not start; is it installed?");
    }

    /// Returns `redis://127.0.0.1:<port>/<db>`.
    pub fn url(&self, db: u32) -> String {
        format!("redis://127.0.0.1:{}/{db}", self.port)
    }

    /// Returns the port, also of a stopped server.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Kills the server: what it did not save is gone.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("redis-server can be killed");
            child.wait().expect("redis-server ends");
        }
    }

    /// Stops the server where it is: it accepts connections and says nothing.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets a frozen server go on.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("redis-server runs");
        kill_process(Pid::from_child(child), signal).expect("redis-server is there");
    }

    /// Starts the killed server again, with the dump it saved last, on the same port.
    pub fn launch(&mut self) {
        assert!(self.child.is_none(), "redis-server still runs");
        assert!(self.try_launch(), "redis-server did not start again");
    }

    /// Runs `cmd` in database `db` over a connection of its own.
    pub fn ask<T: FromRedisValue>(&self, db: u32, cmd: &Cmd) -> T {
        let client = redis::Client::open(self.url(db)).expect("a valid URL");
        let mut connection = client.get_connection().expect("redis-server answers");
        cmd.query(&mut connection).expect("redis-server obeys")
    }

    /// Runs a command given as words, in database 0.
    pub fn run(&self, words: &str) {
        let mut words = words.split(' ');
        let mut cmd = redis::cmd(words.next().expect("a command"));
        for word in words {
            cmd.arg(word);
        }
        let _answer: redis::Value = self.ask(0, &cmd);
    }

    /// Returns the value of `key` in database 0.
    pub fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.ask(0, redis::cmd("GET").arg(key))
    }

    fn try_launch(&mut self) -> bool {
        let mut child = Command::new("redis-server")
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"])
            .args([
                "--save",
                "",
                "--appendonly",
                "no",
                "--enable-debug-command",
                "yes",
            ])
            .arg("--dir")
            .arg(self.folder.path())
            .args(&self.options)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server is installed");
        let output = child.stdout.take().expect("its output is piped");
        if says_it_is_ready(output) {
            self.child = Some(child);
            return true;
        }
        // It may have ended already; both are fine.
        let _ = child.kill();
        let _ = child.wait();
        false
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Returns a port that nobody listens on at the moment.
pub fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0))
        .and_then(|listener| listener.local_addr())
        .expect("a free port")
        .port()
}

/// Reads the log until the server accepts connections (or ended), and keeps reading so that it never blocks.
fn says_it_is_ready(output: ChildStdout) -> bool {
    let (ready, wait) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if line.contains("eady to accept connections") {
                let _ = ready.send(());
            }
        }
    });
    wait.recv_timeout(START).is_ok()
}
