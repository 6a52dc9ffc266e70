//! Many connections to the program at once, which answer pings and note when and how each ends.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use longwire::{Client, ClientHandler, Close, Conn, ConnectError, Dialer, Message, Target};

/// Handshakes in progress at one time.
const OPENING_MAX: usize = 256;
/// Longer than it takes to open all of them on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a connection ended, and when; or that it never opened.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) at: Instant,
    pub(crate) code: Option<u16>,
}

/// Connections that stay until the server ends them.
#[derive(Debug)]
pub(crate) struct Crowd {
    pub(crate) count: usize,
    ends: Receiver<End>,
    leaves: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Crowd {
    /// Opens so many connections, from several addresses.
    pub(crate) fn open(addr: SocketAddr, count: usize, direct_descriptors: bool) -> Self {
        let (ended, ends) = channel();
        let (opened, all_opened) = channel();
        let leaves = Arc::new(AtomicBool::new(false));
        // A ring holds as many direct descriptors as a process has of the others.
        let workers = if direct_descriptors { 2 } else { 1 };
        let client = Client::builder().workers(workers).conns_max(count + OPENING_MAX);
        let client = client.direct_descriptors(direct_descriptors).ping_interval(None);
        let client = client.build().unwrap();
        let left = Arc::clone(&leaves);
        let thread = thread::spawn(move || {
            let member = |worker: usize| Member {
                target: Target::new(addr, "localhost", "/"),
                worker,
                wanted: count / workers + usize::from(worker < count % workers),
                asked: 0,
                open: 0,
                opened: opened.clone(),
                ended: ended.clone(),
                left: Arc::clone(&left),
            };
            drop(client.run(member));
        });
        for _ in 0..workers {
            all_opened.recv_timeout(PATIENCE).expect("all connections open");
        }
        Self { count, ends, leaves, thread: Some(thread) }
    }

    /// The ends so far.
    pub(crate) fn ends(&self) -> Vec<End> {
        self.ends.try_iter().collect()
    }

    /// Waits until all have ended, and returns how.
    pub(crate) fn all_ends(&self, patience: Duration) -> Vec<End> {
        let end = Instant::now() + patience;
        let mut ends = Vec::new();
        while ends.len() < self.count {
            let left = end.saturating_duration_since(Instant::now());
            let next = self.ends.recv_timeout(left);
            ends.push(next.unwrap_or_else(|_| panic!("{} of {} end", ends.len(), self.count)));
        }
        ends
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.leaves.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Member {
    target: Target,
    worker: usize,
    wanted: usize,
    asked: usize,
    open: usize,
    opened: Sender<()>,
    ended: Sender<End>,
    left: Arc<AtomicBool>,
}

impl ClientHandler for Member {
    type State = ();

    fn turn(&mut self, dialer: &mut Dialer<'_, ()>) -> Option<Instant> {
        if self.left.load(Ordering::Relaxed) {
            dialer.stop();
            return None;
        }
        while self.asked < self.wanted && self.asked - self.open < OPENING_MAX {
            let subnet = 2 + u8::try_from(self.worker).unwrap();
            let octets = [127, 0, subnet, 1 + u8::try_from(self.asked / 10_000).unwrap()];
            let connected = dialer.connect(&self.target, Some(octets.into()), ());
            connected.expect("there is a descriptor");
            self.asked += 1;
        }
        Some(dialer.now() + Duration::from_millis(20))
    }

    fn open(&mut self, _: &mut Conn<'_, ()>) {
        self.open += 1;
        if self.open == self.wanted {
            let _ = self.opened.send(());
        }
    }

    fn message(&mut self, _: &mut Conn<'_, ()>, _: Message<'_>) {}

    fn close(&mut self, _: &mut Conn<'_, ()>, close: &Close) {
        let _ = self.ended.send(End { at: Instant::now(), code: Some(close.code().as_u16()) });
    }

    fn fail(&mut self, (): (), error: &ConnectError) {
        eprintln!("a connection did not open: {error:?}");
        let _ = self.ended.send(End { at: Instant::now(), code: None });
    }
}
