//! The simulated driver: a network in memory, on virtual time, full of faults, all from one seed.
//!
//! [`SimDriver`] keeps the contract of [`Driver`] as a hostile kernel would: whatever the contract
//! permits happens sooner or later. The test holds a [`Net`] to the same network and plays the
//! peers. Time passes only in `wait` and in `Net::advance`, so hours cost nothing and a failing
//! seed fails again.
//!
//! It also holds the worker to its side of the contract, by assertion: live tokens only, nothing
//! after `submit_close`, only `submit_close` after `Failed`, one send in flight, no half-close
//! with a send in flight, no use of a slot before `Closed` of the last one, and never fewer blocks
//! lent by the pool than the driver itself holds (a block that was given back twice). The driver
//! returns blocks to the pool, so every block submitted must be one of the pool's.
//!
//! Not simulated: packets, congestion, and anything below the seam that is one backend's own
//! affair (multishot, queue overflow); tests of that backend have it.

mod conn;
mod faults;
mod peer;
#[cfg(test)]
mod tests;
mod world;

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::io::Errno;

pub(crate) use self::faults::{FaultConfig, SeedOnPanic};
pub(crate) use self::peer::{Net, PeerId};
use self::world::World;
use super::addr::PeerAddr;
use super::wake::Wake;
use super::{Closing, Completion, Driver, Health, Patience, Token};
use crate::buf::{Block, Pool, Segment};

/// The driver over a simulated network.
///
/// `AT_ONCE` is its `SENDS_AT_ONCE`: a parameter, so that a worker is tested both ways.
#[derive(Debug)]
pub(crate) struct SimDriver<const AT_ONCE: bool = false> {
    net: Net,
    wake: Option<Wake>,
}

impl SimDriver<false> {
    /// A network of its own, in which `seed` decides everything.
    pub(crate) fn new(seed: u64, config: FaultConfig) -> Self {
        let world = Rc::new_cyclic(|this| RefCell::new(World::new(seed, config, this.clone())));
        Self { net: Net(world), wake: None }
    }

    /// The same driver, sending within `submit_send`. Otherwise it sends then or any time later.
    pub(crate) fn sending_at_once(self) -> SimDriver<true> {
        self.net.0.borrow_mut().sends_at_once = true;
        SimDriver { net: self.net, wake: self.wake }
    }
}

impl<const AT_ONCE: bool> SimDriver<AT_ONCE> {
    /// Lets `wake` end waits too. Costs a system call per wait; `Net::wake` is free.
    pub(crate) fn with_wake(mut self, wake: Wake) -> Self {
        self.wake = Some(wake);
        self
    }

    /// The test's handle to the network.
    pub(crate) fn net(&self) -> Net {
        self.net.clone()
    }

    /// Whether the real wake handle was used since the last look, and resets it.
    fn wake_was_used(&self) -> bool {
        let mut count = [0; 8];
        self.wake.as_ref().is_some_and(|wake| rustix::io::read(wake, &mut count).is_ok())
    }
}

impl<const AT_ONCE: bool> Driver for SimDriver<AT_ONCE> {
    const SENDS_AT_ONCE: bool = AT_ONCE;

    type Socket = SimSocket;

    fn now(&self) -> Instant {
        self.net.now()
    }

    /// Without a wake handle of its own, what is used of this has no effect; see [`Net::wake`].
    fn wake_handle(&self) -> Wake {
        self.wake.clone().unwrap_or_else(|| Wake::new().expect("a wake handle can be made"))
    }

    fn attach(&mut self, token: Token, mut socket: SimSocket) -> io::Result<()> {
        self.net.0.borrow_mut().attach(token, socket.peer)?;
        socket.attached = true;
        Ok(())
    }

    fn submit_send(&mut self, token: Token, segment: Segment, patience: Patience) {
        self.net.0.borrow_mut().submit_send(token, segment, patience);
    }

    fn submit_receive_into(&mut self, token: Token, block: Block, start: usize, end: usize) {
        self.net.0.borrow_mut().submit_receive_into(token, block, start, end);
    }

    fn pause_receive(&mut self, token: Token) {
        self.net.0.borrow_mut().pause_receive(token);
    }

    fn resume_receive(&mut self, token: Token) {
        self.net.0.borrow_mut().resume_receive(token);
    }

    fn shutdown_write(&mut self, token: Token) {
        self.net.0.borrow_mut().shutdown_write(token);
    }

    fn submit_close(&mut self, token: Token, closing: Closing) {
        self.net.0.borrow_mut().submit_close(token, closing);
    }

    fn pause_accept(&mut self) {
        self.net.0.borrow_mut().pause_accept();
    }

    fn resume_accept(&mut self) {
        self.net.0.borrow_mut().resume_accept();
    }

    fn shed_one(&mut self) -> bool {
        self.net.0.borrow_mut().shed_one()
    }

    fn close_listeners(&mut self) {
        self.net.0.borrow_mut().close_listeners();
    }

    /// To a network of one server it is all the same who goes on.
    fn release_listeners(&mut self) {
        self.net.0.borrow_mut().close_listeners();
    }

    fn peer_addr(&self, token: Token) -> io::Result<PeerAddr> {
        let peer = self.net.0.borrow().peer_of(token).ok_or(Errno::NOTCONN)?;
        let [_, a, b, c] = peer.0.to_be_bytes();
        Ok(PeerAddr::Tcp(([10, a, b, c], 49_152).into()))
    }

    /// The same for all, so that tests can tell it from nothing.
    fn round_trip(&self, token: Token) -> Option<Duration> {
        self.net.0.borrow().peer_of(token).map(|_| Duration::from_millis(20))
    }

    fn health(&self) -> Health {
        let stats = self.net.stats();
        Health { waits: stats.turns, receives_parked: stats.starved, ..Health::default() }
    }

    fn poll_completion(&mut self, pool: &mut Pool) -> Option<Completion<SimSocket>> {
        self.net.0.borrow_mut().poll_completion(pool)
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        if self.wake_was_used() {
            self.net.wake();
        }
        self.net.0.borrow_mut().wait(timeout);
        Ok(())
    }
}

/// An accepted socket of the simulation. Dropping it closes it, unless it was attached.
#[derive(Debug)]
pub(crate) struct SimSocket {
    peer: PeerId,
    net: Net,
    attached: bool,
}

impl Drop for SimSocket {
    fn drop(&mut self) {
        if self.attached {
            return;
        }
        // While a failed assertion unwinds, the network may be borrowed; a second panic in here
        // would hide the first.
        if let Ok(mut world) = self.net.0.try_borrow_mut() {
            world.refuse(self.peer);
        }
    }
}
