//! A network that breaks: a proxy on loopback between the program and a real server, which does one of a list of faults
//! each time so many bytes have gone through it, and nothing else once the list is at its end.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    runtime::{Builder, Runtime},
    sync::watch,
    time::timeout,
};

/// What happens to the connection that passes a byte too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Both ends get a reset.
    Reset,
    /// What the client sent arrives, the answer does not: the client gets a reset in its place.
    LoseAnswer,
    /// The answer ends in its middle, in order; requests could still be sent.
    HalfClose,
    /// Nothing goes through any more, and nothing is closed.
    BlackHole,
    /// Nothing goes through for so long, then everything does.
    Delay(Duration),
    /// These bytes stand in the place of an answer, and the connection ends in order.
    Answer(&'static [u8]),
}

/// What the connections of a proxy share.
struct Shared {
    left: VecDeque<Fault>,
    /// Faults that happened, in order.
    struck: Vec<Fault>,
    every: usize,
    /// Bytes since the last fault.
    passed: usize,
}

impl Shared {
    /// Counts bytes; returns the fault that they bring.
    fn pass(&mut self, bytes: usize, from: From) -> Option<Fault> {
        self.passed += bytes;
        let fits = match self.left.front()? {
            // The answer to a request that was on its way when the fault was due.
            Fault::LoseAnswer => from == From::Client,
            Fault::Answer(_) => from == From::Server,
            _ => true,
        };
        if self.passed < self.every || !fits {
            return None;
        }
        self.passed = 0;
        let fault = self.left.pop_front()?;
        self.struck.push(fault);
        Some(fault)
    }
}

/// A proxy at work. Its connections end with it.
pub struct Proxy {
    port: u16,
    shared: Arc<Mutex<Shared>>,
    runtime: Option<Runtime>,
}

/// The direction that is looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum From {
    Client,
    Server,
}

impl Proxy {
    /// Starts a proxy before the server at `port` of loopback: one of `faults` each time `every` bytes went through.
    pub fn start(port: u16, every: usize, faults: &[Fault]) -> Self {
        let shared = Arc::new(Mutex::new(Shared {
            left: faults.iter().copied().collect(),
            struck: Vec::new(),
            every,
            passed: 0,
        }));
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        listener.set_nonblocking(true).expect("a socket");
        let own = listener.local_addr().expect("an address").port();
        let of_all = Arc::clone(&shared);
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).expect("a socket");
            while let Ok((client, _)) = listener.accept().await {
                let shared = Arc::clone(&of_all);
                tokio::spawn(async move {
                    if let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await {
                        carry(client, server, shared).await;
                    }
                });
            }
        });
        Self {
            port: own,
            shared,
            runtime: Some(runtime),
        }
    }

    /// Returns the port of the proxy.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Asserts that every fault of the list happened.
    #[track_caller]
    pub fn assert_all_struck(&self) {
        let shared = self.shared.lock().expect("not poisoned");
        assert!(
            shared.left.is_empty(),
            "after {:?} these never happened: {:?}",
            shared.struck,
            shared.left
        );
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Carries bytes both ways until an end closes or a fault ends it.
async fn carry(client: TcpStream, server: TcpStream, shared: Arc<Mutex<Shared>>) {
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    // What one direction meets ends the other one, too.
    let (decide, decided) = watch::channel(None);
    let up = tokio::spawn(one_way(
        From::Client,
        from_client,
        to_server,
        Arc::clone(&shared),
        decide.clone(),
        decided.clone(),
    ));
    let down = tokio::spawn(one_way(
        From::Server,
        from_server,
        to_client,
        shared,
        decide,
        decided,
    ));
    let _ = tokio::join!(up, down);
}

async fn one_way(
    from: From,
    mut reader: OwnedReadHalf,
    mut writer: OwnedWriteHalf,
    shared: Arc<Mutex<Shared>>,
    decide: watch::Sender<Option<Fault>>,
    mut decided: watch::Receiver<Option<Fault>>,
) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let fault = *decided.borrow_and_update();
        if let Some(fault) = fault {
            return strike(fault, from, reader, writer, &mut buffer, &decide).await;
        }
        let count = tokio::select! {
            read = reader.read(&mut buffer) => read.unwrap_or(0),
            _ = decided.changed() => continue,
        };
        if count == 0 {
            let _ = writer.shutdown().await;
            return;
        }
        let fault = shared.lock().expect("not poisoned").pass(count, from);
        // Half of what it was about still goes through.
        let passes = match fault {
            None | Some(Fault::LoseAnswer | Fault::Delay(_)) => count,
            Some(Fault::Answer(_)) => 0,
            Some(_) => count / 2,
        };
        if let Some(Fault::Delay(wait)) = fault {
            tokio::time::sleep(wait).await;
        }
        let written = writer.write_all(&buffer[..passes]).await;
        if fault.is_some_and(|fault| !matches!(fault, Fault::Delay(_))) {
            decide.send_replace(fault);
        } else if written.is_err() {
            return;
        }
    }
}

/// Ends one direction of a connection as `fault` says.
async fn strike(
    fault: Fault,
    from: From,
    mut reader: OwnedReadHalf,
    mut writer: OwnedWriteHalf,
    buffer: &mut [u8],
    decide: &watch::Sender<Option<Fault>>,
) {
    match (fault, from) {
        (Fault::Reset, _) => reset(writer),
        (Fault::LoseAnswer, From::Client) => {
            // The rest of the request arrives.
            let mut decided = decide.subscribe();
            loop {
                let count = tokio::select! {
                    read = reader.read(buffer) => read.unwrap_or(0),
                    _ = decided.changed() => 0,
                };
                if count == 0 || writer.write_all(&buffer[..count]).await.is_err() {
                    return reset(writer);
                }
            }
        }
        (Fault::LoseAnswer, From::Server) => {
            // The server is done when it has answered and says nothing more.
            let mut patience = Duration::from_secs(30);
            while let Ok(Ok(1..)) = timeout(patience, reader.read(buffer)).await {
                patience = Duration::from_millis(100);
            }
            reset(writer);
            decide.send_replace(Some(Fault::Reset));
        }
        (Fault::BlackHole, _) => std::future::pending().await,
        (Fault::Answer(text), From::Server) => {
            let _ = writer.write_all(text).await;
            let _ = writer.shutdown().await;
        }
        (Fault::HalfClose, From::Server) => {
            let _ = writer.shutdown().await;
            swallow(reader, buffer).await;
        }
        (Fault::HalfClose | Fault::Answer(_), From::Client) => swallow(reader, buffer).await,
        (Fault::Delay(_), _) => {}
    }
}

/// Closes a connection without the usual goodbye.
fn reset(writer: OwnedWriteHalf) {
    let _ = writer.as_ref().set_zero_linger();
    writer.forget();
}

/// Takes what comes, to its end.
async fn swallow(mut reader: OwnedReadHalf, buffer: &mut [u8]) {
    while reader.read(buffer).await.is_ok_and(|count| count > 0) {}
}
