//! Many connections to the program at once, which answer pings and note when and how each ends.

use std::net::SocketAddr;
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
    /// The crowd leaves when it is gone.
    stay: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Crowd {
    /// Opens so many connections, from several addresses.
    pub(crate) fn open(addr: SocketAddr, count: usize, direct_descriptors: bool) -> Self {
        let (ended, ends) = channel();
        let (opened, all_opened) = channel();
        let (stay, left) = channel();
        let client = Client::builder().workers(1).conns_max(count + OPENING_MAX);
        let client = client.direct_descriptors(direct_descriptors).ping_interval(None);
        let client = client.build().unwrap();
        let thread = thread::spawn(move || {
            let member = |_| Member {
                target: Target::new(addr, "localhost", "/"),
                wanted: count,
                asked: 0,
                open: 0,
                opened: opened.clone(),
                ended: ended.clone(),
                left: None,
            };
            // The receiver cannot be shared; there is one worker.
            let left = std::sync::Mutex::new(Some(left));
            let member = |worker| Member { left: left.lock().unwrap().take(), ..member(worker) };
            drop(client.run(member));
        });
        all_opened.recv_timeout(PATIENCE).expect("all connections open");
        Self { count, ends, stay: Some(stay), thread: Some(thread) }
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
        drop(self.stay.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Member {
    target: Target,
    wanted: usize,
    asked: usize,
    open: usize,
    opened: Sender<()>,
    ended: Sender<End>,
    left: Option<Receiver<()>>,
}

impl ClientHandler for Member {
    type State = ();

    fn turn(&mut self, dialer: &mut Dialer<'_, ()>) -> Option<Instant> {
        use std::sync::mpsc::TryRecvError::Disconnected;
        if self.left.as_ref().is_some_and(|left| left.try_recv() == Err(Disconnected)) {
            dialer.stop();
            return None;
        }
        while self.asked < self.wanted && self.asked - self.open < OPENING_MAX {
            let octets = [127, 0, 2, 1 + u8::try_from(self.asked / 10_000).unwrap()];
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
