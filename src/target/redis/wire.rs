//! A connection of a chunk writer: commands are packed straight from the chunk.
//!
//! The driver's multiplexed connection holds a command three times (arguments, packed command, socket buffer), which
//! a 20 MB value makes 60 MB, and it costs 4 to 15 % of the wall time of a run. Here small rows go through one
//! buffer of [`PIECE`] bytes and large values go to the socket from where the chunk holds them.

use std::io;

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    time::timeout,
};

use super::{error, server::Server, socket::Socket};
use crate::{
    error::{EdgeError, ErrorKind},
    target::resp,
};

/// Bytes collected before they are handed to the kernel: a few system calls for each chunk, and little memory for
/// each writer.
const PIECE: usize = 64 * 1024;

/// Bounds on replies, so that something that is not Redis cannot fill the memory. Ours are a few dozen bytes.
const REPLY_BYTES: u64 = 64 * 1024;

/// Bounds on all members of an array together: a `+OK` for each `MSET`, or the two keys of the evidence.
const ARRAY_BYTES: usize = 1024 * 1024;

/// Most members of an array. A transaction has one for each `MSET`, and no chunk comes near this many.
const MEMBERS: usize = 64 * 1024;

/// One reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reply {
    /// `+OK`
    Status(String),
    /// `-OOM command not allowed`
    Error(String),
    /// `:1`
    Number(i64),
    /// `$2\r\n12`, or nil.
    Bulk(Option<Vec<u8>>),
    /// `*1 ...`, or nil. Its members are not arrays themselves.
    Array(Option<Vec<Reply>>),
}

/// What a reply is to a value that was expected.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Matched {
    /// That value.
    Same,
    /// Another one.
    Differs,
    /// Nil.
    Nothing,
    /// An error: `WRONGTYPE Operation against ...`
    Refused(String),
}

/// A logged-in connection that is used by one task.
pub(super) struct Wire {
    stream: BufReader<Box<dyn Socket>>,
    out: Vec<u8>,
}

impl Wire {
    /// Connects, logs in and selects the database.
    pub(super) async fn open(server: &Server) -> Result<Self, EdgeError> {
        let stream = server.dial().await?;
        let mut wire = Self {
            stream: BufReader::with_capacity(1024, stream),
            out: Vec::with_capacity(PIECE + 4 * 1024),
        };
        timeout(server.response_timeout, wire.login(server))
            .await
            .map_err(|_| error::timed_out(&server.place, server.response_timeout))??;
        Ok(wire)
    }

    /// Returns a connection over a socket that needs no login.
    #[cfg(feature = "failpoints")]
    pub(super) fn over(stream: Box<dyn Socket>) -> Self {
        Self {
            stream: BufReader::with_capacity(1024, stream),
            out: Vec::new(),
        }
    }

    /// Returns the connection with room for many answers at a time. Nothing is under way on it.
    pub(super) fn roomy(self) -> Self {
        Self {
            stream: BufReader::with_capacity(PIECE, self.stream.into_inner()),
            out: self.out,
        }
    }

    /// Gives the logged-in socket away. Nothing is under way on it.
    pub(super) fn into_stream(self) -> Box<dyn Socket> {
        self.stream.into_inner()
    }

    async fn login(&mut self, server: &Server) -> Result<(), EdgeError> {
        if server.uses_tls() {
            // A server that does not like our certificate says so after the handshake, in place of its first answer:
            // here it is heard, whatever it would be to this question.
            resp::command(&mut self.out, &[b"PING"]);
            self.answer(server).await?;
        }
        if let Some((user, password)) = server.credentials() {
            let mut words: Vec<&[u8]> = vec![b"AUTH"];
            words.extend(user.map(str::as_bytes));
            words.push(password.as_bytes());
            resp::command(&mut self.out, &words);
            self.login_step(server).await?;
        }
        if server.db() != 0 {
            let db = server.db().to_string();
            resp::command(&mut self.out, &[b"SELECT", db.as_bytes()]);
            self.login_step(server).await?;
        }
        Ok(())
    }

    async fn login_step(&mut self, server: &Server) -> Result<(), EdgeError> {
        let place = &server.place;
        match self.answer(server).await? {
            Reply::Status(_) => Ok(()),
            Reply::Error(text) => {
                let (code, detail) = error::split(&text);
                // Before 6.0 a wrong password was an `ERR`.
                let code = if code == "ERR" && detail.contains("password") {
                    "WRONGPASS"
                } else {
                    code
                };
                Err(error::refused(place, "the login", code, detail))
            }
            _ => Err(error::socket(place, not_redis())),
        }
    }

    /// Sends what is collected and reads the answer, one of the first over this connection.
    async fn answer(&mut self, server: &Server) -> Result<Reply, EdgeError> {
        let answer = async {
            self.flush().await?;
            self.reply().await
        };
        answer.await.map_err(|e| {
            let mut error = error::socket(&server.place, e);
            if error.kind == ErrorKind::Connection {
                error.message += server.hint();
            }
            error
        })
    }

    /// Gives access to the bytes that go out next. Call [`Wire::spill`] now and then.
    pub(super) fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Hands the collected bytes to the kernel when there are enough of them.
    pub(super) async fn spill(&mut self) -> io::Result<()> {
        if self.out.len() >= PIECE {
            self.flush().await?;
        }
        Ok(())
    }

    /// Hands all collected bytes to the kernel.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        let stream = self.stream.get_mut();
        stream.write_all(&self.out).await?;
        self.out.clear();
        // TLS holds records back until it is told.
        stream.flush().await
    }

    /// Appends the word `value`; a large one goes to the kernel without a copy of ours.
    pub(super) async fn value(&mut self, value: &[u8]) -> io::Result<()> {
        resp::bulk_header(&mut self.out, value.len());
        if value.len() < PIECE / 4 {
            self.out.extend_from_slice(value);
        } else {
            self.flush().await?;
            self.stream.get_mut().write_all(value).await?;
        }
        self.out.extend_from_slice(b"\r\n");
        self.spill().await
    }

    /// Reads the next reply.
    pub(super) async fn reply(&mut self) -> io::Result<Reply> {
        let (sign, rest) = self.line().await?;
        if sign != b'*' {
            return self.simple(sign, rest).await;
        }
        let count: i64 = rest.parse().map_err(|_| not_redis())?;
        let Ok(count) = usize::try_from(count) else {
            return Ok(Reply::Array(None));
        };
        if count > MEMBERS {
            return Err(not_redis());
        }
        let mut members = Vec::new();
        let mut held = 0;
        for _ in 0..count {
            let (sign, rest) = self.line().await?;
            let member = self.simple(sign, rest).await?;
            held += match &member {
                Reply::Status(text) | Reply::Error(text) => text.len(),
                Reply::Bulk(Some(bytes)) => bytes.len(),
                _ => 0,
            };
            if held > ARRAY_BYTES {
                return Err(not_redis());
            }
            members.push(member);
        }
        Ok(Reply::Array(Some(members)))
    }

    async fn simple(&mut self, sign: u8, rest: String) -> io::Result<Reply> {
        Ok(match sign {
            b'+' => Reply::Status(rest),
            b'-' => Reply::Error(rest),
            b':' => Reply::Number(rest.parse().map_err(|_| not_redis())?),
            b'$' => {
                let length: i64 = rest.parse().map_err(|_| not_redis())?;
                let Ok(length) = u64::try_from(length) else {
                    return Ok(Reply::Bulk(None));
                };
                if length > REPLY_BYTES {
                    return Err(not_redis());
                }
                let mut bytes = vec![0; usize::try_from(length).map_err(|_| not_redis())? + 2];
                self.stream.read_exact(&mut bytes).await?;
                if !bytes.ends_with(b"\r\n") {
                    return Err(not_redis());
                }
                bytes.truncate(bytes.len() - 2);
                Reply::Bulk(Some(bytes))
            }
            _ => return Err(not_redis()),
        })
    }

    /// Reads the next reply and says whether it is the value `wanted`, whatever its length, without holding it.
    pub(super) async fn matches(&mut self, wanted: &[u8]) -> io::Result<Matched> {
        let (sign, rest) = self.line().await?;
        match sign {
            b'-' => return Ok(Matched::Refused(rest)),
            b'$' => {}
            _ => return Err(not_redis()),
        }
        let length: i64 = rest.parse().map_err(|_| not_redis())?;
        let Ok(length) = usize::try_from(length) else {
            return Ok(Matched::Nothing);
        };
        let mut same = length == wanted.len();
        let mut left = length;
        while left > 0 {
            let bytes = self.stream.fill_buf().await?;
            let count = bytes.len().min(left);
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let at = length - left;
            same = same && bytes[..count] == wanted[at..at + count];
            self.stream.consume(count);
            left -= count;
        }
        let mut end = [0; 2];
        self.stream.read_exact(&mut end).await?;
        if end != *b"\r\n" {
            return Err(not_redis());
        }
        Ok(if same {
            Matched::Same
        } else {
            Matched::Differs
        })
    }

    /// Reads a line: its first byte, and the rest without the line end.
    async fn line(&mut self) -> io::Result<(u8, String)> {
        let mut line = Vec::new();
        (&mut self.stream)
            .take(REPLY_BYTES)
            .read_until(b'\n', &mut line)
            .await?;
        if line.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let Some(text) = line.strip_suffix(b"\r\n") else {
            return Err(
                if line.ends_with(b"\n") || line.len() as u64 == REPLY_BYTES {
                    not_redis()
                } else {
                    io::ErrorKind::UnexpectedEof.into()
                },
            );
        };
        let (&sign, rest) = text.split_first().ok_or_else(not_redis)?;
        Ok((sign, String::from_utf8_lossy(rest).into_owned()))
    }
}

pub(super) fn not_redis() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "the answer is not in Redis's protocol",
    )
}
