//! The application: does with topics what its clients say, and a little of its own accord.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::conn::{Close, Message};
use crate::decision::Decision;
use crate::handler::{Conn, Handler};
use crate::proto::CloseCode;
use crate::proto::handshake::Request;
use crate::pubsub::{PublishError, SubscribeError};

/// What the applications of all cores have published.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// By topic and publisher: the number of its last message, from 1.
    last: BTreeMap<(usize, u32), usize>,
    next_publisher: u32,
    pub(super) faults: Vec<String>,
}

impl Ledger {
    pub(super) fn published(&self) -> usize {
        self.last.values().sum()
    }

    /// The same for one topic.
    pub(super) fn last_of(&self, topic: usize) -> BTreeMap<(usize, u32), usize> {
        let of_topic = self.last.iter().filter(|((of, _), _)| *of == topic);
        of_topic.map(|(key, last)| (*key, *last)).collect()
    }
}

/// One on each core.
#[derive(Debug)]
pub(super) struct Hub {
    ledger: Rc<RefCell<Ledger>>,
    rng: fastrand::Rng,
    /// Acts of its own accord, too.
    is_wild: bool,
}

/// Kept for each connection.
#[derive(Debug, Default)]
pub(super) struct Guest {
    topic: usize,
    publisher: u32,
}

impl Hub {
    pub(super) fn new(ledger: &Rc<RefCell<Ledger>>, seed: u64, is_wild: bool) -> Self {
        Self { ledger: Rc::clone(ledger), rng: fastrand::Rng::with_seed(seed), is_wild }
    }

    fn publish(&mut self, conn: &mut Conn<'_, Guest>, topic: usize) {
        let publisher = conn.state().publisher;
        let mut ledger = self.ledger.borrow_mut();
        let last = ledger.last.entry((topic, publisher)).or_default();
        let filler = "~".repeat(self.rng.usize(0..400));
        let payload = format!("{topic} {publisher} {} {filler}", *last + 1);
        match conn.publish(&topic.to_string(), &payload) {
            Ok(receipt) => {
                *last += 1;
                drop(receipt);
            }
            // Nobody is sent it, so the number is free.
            Err(PublishError::Busy) => {}
            Err(error) => ledger.faults.push(format!("publish: {error}")),
        }
    }

    fn subscribe(&self, conn: &mut Conn<'_, Guest>, topic: usize) {
        match conn.subscribe(&topic.to_string()) {
            Ok(true) => drop(conn.send(&format!("+ {topic}"))),
            Ok(false) | Err(SubscribeError::Closed) => {}
            Err(error) => self.ledger.borrow_mut().faults.push(format!("subscribe: {error}")),
        }
    }
}

impl Handler for Hub {
    type State = Guest;

    fn upgrade(&mut self, request: &Request<'_>) -> Decision<Guest> {
        let topic = request.path().trim_start_matches('/').parse().unwrap();
        let mut ledger = self.ledger.borrow_mut();
        ledger.next_publisher += 1;
        Decision::accept(Guest { topic, publisher: ledger.next_publisher })
    }

    fn open(&mut self, conn: &mut Conn<'_, Guest>) {
        let topic = conn.state().topic;
        self.subscribe(conn, topic);
    }

    fn message(&mut self, conn: &mut Conn<'_, Guest>, message: Message<'_>) {
        let words: Vec<&str> = message.text().unwrap().split(' ').collect();
        match words[..] {
            ["subscribe", topic] => self.subscribe(conn, topic.parse().unwrap()),
            ["unsubscribe", topic] => drop(conn.unsubscribe(topic)),
            ["publish", topic, count] => {
                for _ in 0..count.parse().unwrap() {
                    self.publish(conn, topic.parse().unwrap());
                }
            }
            ["close"] => {
                self.publish(conn, 0);
                conn.close(CloseCode::NORMAL, "");
                if conn.subscribe("1") != Err(SubscribeError::Closed) {
                    let fault = "a closing connection subscribes".to_owned();
                    self.ledger.borrow_mut().faults.push(fault);
                }
            }
            _ => self.ledger.borrow_mut().faults.push(format!("not an order: {words:?}")),
        }
    }

    fn writable(&mut self, conn: &mut Conn<'_, Guest>) {
        let topic = conn.state().topic;
        match self.rng.u8(0..4) {
            _ if !self.is_wild => {}
            0 => drop(conn.unsubscribe(&topic.to_string())),
            1 => self.subscribe(conn, topic),
            2 => self.publish(conn, topic),
            _ => conn.close(CloseCode::NORMAL, ""),
        }
    }

    fn close(&mut self, conn: &mut Conn<'_, Guest>, _: &Close) {
        let topic = conn.state().topic;
        self.publish(conn, topic);
        if conn.subscribe("0") != Err(SubscribeError::Closed) {
            self.ledger.borrow_mut().faults.push("a closed connection subscribes".to_owned());
        }
        conn.unsubscribe("0");
    }
}
