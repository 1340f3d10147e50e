//! A sink that keeps every row, and the trouble it can make for the connection it is fed by.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use rekindle::{
    chunk::{SourceRow, Value},
    cursor::KeyValue,
    source::{RowSink, Stopped},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Got {
    Bytes(Vec<u8>),
    Null,
    TooLarge(u64),
}

/// What happens while the first chunk is handed on.
pub enum Trouble {
    None,
    /// Something is done to the server.
    Act(BoxFuture<'static, ()>),
    Silence(Arc<Line>),
    Stop,
}

/// Keeps every row; what was not flushed counts as lost.
pub struct Rows {
    page_limit: u32,
    chunk_limit: usize,
    pub row_bytes: u64,
    pub open: Vec<(KeyValue, Option<Vec<u8>>, Got)>,
    pub kept: Vec<(KeyValue, Option<Vec<u8>>, Got)>,
    flushes: usize,
    pub trouble: Trouble,
}

impl Rows {
    pub fn new(page_limit: u32, chunk_limit: usize) -> Self {
        Self {
            page_limit,
            chunk_limit,
            row_bytes: u64::MAX,
            open: Vec::new(),
            kept: Vec::new(),
            flushes: 0,
            trouble: Trouble::None,
        }
    }

    pub fn keys(&self) -> Vec<i128> {
        self.kept
            .iter()
            .map(|(key, ..)| key.as_i128().expect("an integer"))
            .collect()
    }
}

#[async_trait]
impl RowSink for Rows {
    fn page_rows(&self) -> u32 {
        self.page_limit
    }
    fn row_bytes(&self) -> u64 {
        self.row_bytes
    }
    fn push(&mut self, row: SourceRow<'_>) -> bool {
        let got = match row.value {
            Value::Bytes(bytes) => Got::Bytes(bytes.to_vec()),
            Value::Null => Got::Null,
            Value::TooLarge(length) => Got::TooLarge(length),
        };
        self.open
            .push((row.cursor[0].clone(), row.key.map(<[u8]>::to_vec), got));
        self.open.len() >= self.chunk_limit
    }
    async fn flush(&mut self) -> Result<(), Stopped> {
        if self.open.is_empty() {
            return Ok(());
        }
        self.kept.append(&mut self.open);
        self.flushes += 1;
        match std::mem::replace(&mut self.trouble, Trouble::None) {
            Trouble::None => {}
            Trouble::Stop => return Err(Stopped),
            Trouble::Silence(line) => line.cut(),
            Trouble::Act(act) => act.await,
        }
        Ok(())
    }
}

/// A TCP line to the server that can fall silent without closing.
pub struct Line {
    carried: AtomicU64,
    silent: AtomicBool,
    changed: Notify,
}

impl Line {
    pub async fn to(server: String) -> (Arc<Self>, u16) {
        let line = Arc::new(Self {
            carried: AtomicU64::new(0),
            silent: AtomicBool::new(false),
            changed: Notify::new(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let shared = Arc::clone(&line);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&server)
                    .await
                    .expect("the server answers");
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                tokio::spawn(Self::carry(Arc::clone(&shared), from_client, to_server));
                tokio::spawn(Self::carry(Arc::clone(&shared), from_server, to_client));
            }
        });
        (line, port)
    }

    async fn carry(
        line: Arc<Self>,
        mut from: tokio::net::tcp::OwnedReadHalf,
        mut to: tokio::net::tcp::OwnedWriteHalf,
    ) {
        let mut buffer = vec![0; 4096];
        loop {
            let Ok(read @ 1..) = from.read(&mut buffer).await else {
                return;
            };
            while line.silent.load(Ordering::SeqCst) {
                line.changed.notified().await;
            }
            line.carried.fetch_add(read as u64, Ordering::SeqCst);
            if to.write_all(&buffer[..read]).await.is_err() {
                return;
            }
        }
    }

    /// Returns how many bytes went either way.
    pub fn carried(&self) -> u64 {
        self.carried.load(Ordering::SeqCst)
    }

    fn cut(&self) {
        self.silent.store(true, Ordering::SeqCst);
    }
}
