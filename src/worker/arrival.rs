//! Connections that come: who is let in, what is asked of them first, and how they are forgotten.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::buf::Block;
use crate::conn::{Connection, Input, Tls};
use crate::io::{Driver, Token};
use crate::policy::admission::PerAddress;
use crate::policy::budget::Level;
use crate::policy::trusted::TrustedProxies;
use crate::proto::handshake::forwarded::ForwardedHeader;
use crate::proto::handshake::{Refusal, Request};
use crate::tls::Follower;

use super::{Application, Entry, Handshake, REFUSAL_SLOTS, Tally, Worker};

/// What is asked of the connections of one listener.
#[derive(Debug, Default)]
pub(crate) struct Door {
    /// They speak TLS.
    pub(crate) tls: Option<Follower>,
    /// They begin with a header of the PROXY protocol.
    pub(crate) proxy_header: bool,
}

/// Who may connect, and who is believed to speak for whom. The same for all workers.
#[derive(Debug, Default)]
pub(crate) struct Access {
    /// Proxies that tell the address of a client.
    pub(crate) trusted: TrustedProxies,
    /// In which header of a request they do.
    pub(crate) forwarded: Option<ForwardedHeader>,
    /// Connections of each client address, if they are bounded.
    pub(crate) per_address: Option<PerAddress>,
}

/// Why a connection is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Full {
    /// There is no room.
    Worker,
    /// As many handshakes have begun in this second as may.
    Second,
    /// Its address has its share.
    Address,
}

impl<D: Driver, A: Application<D>> Worker<D, A> {
    /// A new connection, or an answer that there is no room for it.
    pub(super) fn insert(&mut self, socket: D::Socket, listener: u8) {
        let counted = self.shared.conn_count.fetch_add(1, Ordering::Relaxed);
        let tls = self.doors.get_mut(usize::from(listener)).and_then(|door| door.tls.as_mut());
        let is_tls = tls.is_some();
        let tls = tls.map(|follower| Tls::server(Arc::clone(follower.newest())));
        let full = counted >= self.core.limits.conns_max
            || self.tally.handshakes >= self.core.limits.handshakes_max
            || (is_tls && self.tally.tls_handshakes >= self.core.limits.tls_handshakes_max)
            || self.memory.level() >= Level::RefuseNew
            || self.stop.refuses();
        if full {
            // Whoever is only told so takes no place from those that come later.
            self.shared.conn_count.fetch_sub(1, Ordering::Relaxed);
            // To say so over TLS would take the handshake that there is no room for (row TC06).
            if is_tls || self.tally.refused == REFUSAL_SLOTS {
                self.core.refused(Refusal::Overloaded);
                return;
            }
        }
        self.core.metrics.accepted.add(1);
        let generation = self.tally.next_generation();
        let connection = Connection::server(Tally::spread(generation), &self.core);
        let mut entry = Entry::new(connection, generation, None);
        entry.refused = full;
        entry.handshake = Handshake::Done;
        let Ok(index) = u32::try_from(self.table.insert(entry)) else { return };
        self.tally.refused += usize::from(full);
        let token = Token { index, generation };
        if self.driver.attach(token, socket).is_err() {
            self.forget(index);
            return;
        }
        if full {
            self.turn_away(token, Full::Worker);
        } else {
            self.greet(token, listener, tls);
        }
        self.look_after(index);
    }

    /// Prepares a connection for what its listener asks.
    fn greet(&mut self, token: Token, listener: u8, tls: Option<Tls>) {
        let proxy_header =
            self.doors.get(usize::from(listener)).is_some_and(|door| door.proxy_header);
        let access = &self.shared.access;
        let behind_proxies = proxy_header || access.forwarded.is_some();
        let ip = match proxy_header || (access.per_address.is_some() && !behind_proxies) {
            true => self.driver.peer_addr(token).ok().and_then(|peer| peer.ip()),
            false => None,
        };
        let trusted = ip.is_some_and(|ip| access.trusted.contains(ip));
        let Some((entry, core)) = self.live(token) else { return };
        if let Some(tls) = tls {
            entry.connection.secure(tls, core);
        }
        if proxy_header && !trusted {
            // Whoever is no proxy of ours may not say whose address it has (row PX02).
            core.metrics.count_refusal("untrusted_proxy");
            entry.connection.give_up();
            return;
        }
        if proxy_header {
            entry.connection.expect_proxy_header();
        }
        entry.handshake = Handshake::Http;
        self.tally.handshakes += 1;
        let now = self.core.now;
        if self.handshake_rate.as_mut().is_some_and(|rate| !rate.take(now)) {
            self.turn_away(token, Full::Second);
        } else if let Some(ip) = ip.filter(|_| !proxy_header)
            && !self.admit_address(token, ip)
        {
            self.turn_away(token, Full::Address);
        }
    }

    /// Bytes of a connection that is to begin with a PROXY header. True once that is complete;
    /// what follows it is left in the input.
    pub(super) fn handle_proxy_header(
        &mut self,
        token: Token,
        block: &Block,
        input: &mut Input,
    ) -> bool {
        let Some((entry, core)) = self.live(token) else { return false };
        let Some(source) = entry.connection.poll_proxy_header(block.bytes(), input, core) else {
            return false;
        };
        // A check of the proxy's own has no client (`LOCAL`), and counts for nobody.
        let Some(ip) = source.map(|source| source.ip()) else { return true };
        if let Some((entry, _)) = self.live(token) {
            entry.connection.set_client(ip);
        }
        if self.shared.access.per_address.is_some() && !self.admit_address(token, ip) {
            self.turn_away(token, Full::Address);
            return false;
        }
        true
    }

    /// Finds out for whom a proxy speaks, and counts that client. False if it has been refused.
    pub(super) fn admit_forwarded(&mut self, token: Token, request: &Request<'_>) -> bool {
        let access = &self.shared.access;
        let Some(header) = access.forwarded else { return true };
        let known = self.live(token).and_then(|(entry, _)| entry.connection.client_addr());
        let peer = || self.driver.peer_addr(token).ok().and_then(|peer| peer.ip());
        let Some(peer) = known.or_else(peer) else { return true };
        let access = &self.shared.access;
        let client = header.client_addr(request, peer, |ip| access.trusted.contains(ip));
        let Some((entry, _)) = self.live(token) else { return false };
        entry.connection.set_client(client);
        let admitted = self.admit_address(token, client);
        if !admitted && let Some((entry, core)) = self.live(token) {
            entry.connection.refuse(Refusal::TooManyRequests, core);
        }
        admitted
    }

    /// Counts a connection for its client's address. False if that has its share already.
    fn admit_address(&mut self, token: Token, ip: IpAddr) -> bool {
        let shared = Arc::clone(&self.shared);
        let Some(per_address) = &shared.access.per_address else { return true };
        let Some((entry, _)) = self.live(token) else { return false };
        // What a proxy said in its header counts more than what it says in a request.
        if let Some(admitted) = entry.connection.take_admitted() {
            per_address.release(admitted);
        }
        let Some(admitted) = per_address.try_admit(ip) else { return false };
        entry.connection.set_admitted(admitted);
        true
    }

    fn turn_away(&mut self, token: Token, full: Full) {
        let Some((entry, core)) = self.live(token) else { return };
        let refusal = match full {
            Full::Worker => Refusal::Overloaded,
            Full::Second => Refusal::HandshakeRate,
            Full::Address => Refusal::TooManyRequests,
        };
        if entry.connection.is_secure() {
            core.refused(refusal);
            entry.connection.give_up();
        } else {
            entry.connection.refuse(refusal, core);
        }
    }

    /// Removes a connection that the kernel has let go of.
    pub(super) fn forget(&mut self, index: u32) {
        let mut entry = self.table.remove(index as usize);
        if let Some(admitted) = entry.connection.take_admitted()
            && let Some(per_address) = &self.shared.access.per_address
        {
            per_address.release(admitted);
        }
        entry.connection.release(&mut self.core);
        self.topics.forget(index);
        self.deadlines.clear(index);
        self.tally.leave(entry.handshake);
        if entry.refused {
            self.tally.refused -= 1;
        } else {
            self.shared.conn_count.fetch_sub(1, Ordering::Relaxed);
        }
        // A descriptor is free again (row TC01).
        if self.accept_resumes_at.is_some() {
            self.accept_resumes_at = Some(self.core.now);
        }
    }
}
