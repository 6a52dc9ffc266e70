//! Very many subscribers of several nodes, each of which checks all it reads.
//!
//! A message is `PUBLISHER:NUMBER`, in numbers from 0. Of each publisher a subscriber must see rising
//! numbers; how many of them did not come is counted.

use std::collections::HashMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::client::{Client, TEXT, frame};

const THREADS: usize = 4;

/// How many of them there are, and where.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) topics: usize,
    /// Of each topic, on each node.
    pub(crate) subscribers: usize,
}

/// The subscribers, who read in threads of their own.
pub(crate) struct Audience {
    shape: Shape,
    /// A way to send for one subscriber of each topic on each node, by node and topic.
    publishers: Vec<Mutex<Publisher>>,
    readers: Vec<JoinHandle<Vec<Subscriber>>>,
    received: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
}

struct Publisher {
    stream: TcpStream,
    sent: u64,
}

/// What a subscriber has seen, of each publisher.
pub(crate) struct Subscriber {
    stream: TcpStream,
    unread: Vec<u8>,
    pub(crate) node: usize,
    pub(crate) topic: usize,
    pub(crate) seen: HashMap<usize, Seen>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) count: u64,
    /// The number that comes next.
    next: u64,
}

pub(crate) fn topic_name(topic: usize) -> String {
    format!("room.{topic}")
}

impl Audience {
    pub(crate) fn open(nodes: &[SocketAddr], shape: Shape) -> Self {
        let mut publishers = Vec::new();
        let mut shares: Vec<Vec<Subscriber>> = (0..THREADS).map(|_| Vec::new()).collect();
        let mut count = 0;
        for (node, addr) in nodes.iter().enumerate() {
            for topic in 0..shape.topics {
                for number in 0..shape.subscribers {
                    let path = format!("/topics/{}", topic_name(topic));
                    let client = Client::open_at(*addr, &path);
                    if number == 0 {
                        let stream = client.stream.try_clone().unwrap();
                        publishers.push(Mutex::new(Publisher { stream, sent: 0 }));
                    }
                    client.stream.set_nonblocking(true).unwrap();
                    let stream = client.stream.try_clone().unwrap();
                    let (unread, seen) = (Vec::new(), HashMap::new());
                    let subscriber = Subscriber { stream, unread, node, topic, seen };
                    shares[count % THREADS].push(subscriber);
                    count += 1;
                }
            }
        }
        let received = Arc::new(AtomicU64::new(0));
        let is_over = Arc::new(AtomicBool::new(false));
        let readers = shares.into_iter().map(|share| {
            let (received, is_over) = (Arc::clone(&received), Arc::clone(&is_over));
            thread::spawn(move || read(share, &received, &is_over))
        });
        let readers = readers.collect();
        Self { shape, publishers, readers, received, is_over }
    }

    /// Publishes the next message of a publisher.
    pub(crate) fn publish(&self, publisher: usize) {
        let mut from = self.publishers[publisher].lock().unwrap();
        let text = format!("{publisher}:{}", from.sent);
        from.sent += 1;
        let bytes = frame(true, TEXT, text.as_bytes());
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            match from.stream.write(rest) {
                Ok(sent) => rest = &rest[sent..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    thread::sleep(Duration::from_millis(1));
                }
                Err(error) => panic!("publisher {publisher}: {error}"),
            }
        }
    }

    pub(crate) fn publisher_count(&self) -> usize {
        self.publishers.len()
    }

    /// The topic and the node of a publisher.
    pub(crate) fn place(&self, publisher: usize) -> (usize, usize) {
        (publisher / self.shape.topics, publisher % self.shape.topics)
    }

    pub(crate) fn sent(&self, publisher: usize) -> u64 {
        self.publishers[publisher].lock().unwrap().sent
    }

    /// Messages that all subscribers together have read.
    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Waits until nothing more has come for some time, or `expected` are there.
    pub(crate) fn settle(&self, expected: Option<u64>) {
        let mut last = (self.received(), Instant::now());
        while last.1.elapsed() < Duration::from_secs(3) && expected != Some(last.0) {
            thread::sleep(Duration::from_millis(10));
            let now = self.received();
            if now != last.0 {
                last = (now, Instant::now());
            }
        }
    }

    /// Ends it; what each has seen.
    pub(crate) fn end(self) -> (Vec<u64>, Vec<Subscriber>) {
        self.is_over.store(true, Ordering::Relaxed);
        let sent = (0..self.publisher_count()).map(|publisher| self.sent(publisher)).collect();
        let subscribers = self.readers.into_iter().flat_map(|reader| reader.join().unwrap());
        (sent, subscribers.collect())
    }
}

fn read(
    mut subscribers: Vec<Subscriber>,
    received: &AtomicU64,
    is_over: &AtomicBool,
) -> Vec<Subscriber> {
    while !is_over.load(Ordering::Relaxed) {
        let mut count = 0;
        for subscriber in &mut subscribers {
            count += subscriber.read();
        }
        received.fetch_add(count, Ordering::Relaxed);
        if count == 0 {
            thread::sleep(Duration::from_millis(5));
        }
    }
    subscribers
}

impl Subscriber {
    /// Reads what is there; how many messages.
    fn read(&mut self) -> u64 {
        let mut bytes = [0; 16 << 10];
        match self.stream.read(&mut bytes) {
            Ok(0) => panic!("node {} has closed a subscriber", self.node),
            Ok(read) => self.unread.extend_from_slice(&bytes[..read]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return 0,
            Err(error) => panic!("node {}: {error}", self.node),
        }
        let mut count = 0;
        let mut start = 0;
        while let Some([first, length]) = self.unread.get(start..start + 2) {
            assert_eq!((*first, *length < 126), (0x80 | TEXT, true), "a short text message");
            let end = start + 2 + usize::from(*length);
            let Some(text) = self.unread.get(start + 2..end) else { break };
            let text = str::from_utf8(text).unwrap();
            let (publisher, number) = text.split_once(':').unwrap();
            let number: u64 = number.parse().unwrap();
            let seen = self.seen.entry(publisher.parse().unwrap()).or_default();
            assert!(number >= seen.next, "{text} came to node {} twice or late", self.node);
            seen.next = number + 1;
            seen.count += 1;
            count += 1;
            start = end;
        }
        self.unread.drain(..start);
        count
    }
}
