//! Who is let in when many come: connections of one client address, counted for all workers
//! together, and handshakes per second, by the share of each worker.
//!
//! An address is what one customer of a network has: an IPv4 address, or the /64 of an IPv6
//! address, since whoever has one address of a /64 has 2^64 of them. Behind a proxy it is the
//! address that the proxy told, if that was believed; else all its clients are one address.
//!
//! Workers share the counts of addresses, so this is the one place of a connection's life with a lock. It is
//! taken when a connection is admitted and when it ends, only if the limit is on, and it is one of
//! many: two workers seldom want the same at once.

use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::hash::BuildHasher as _;
use std::net::{IpAddr, Ipv6Addr};
use std::num::{NonZeroU32, NonZeroU64};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Tick;

/// Locks; more than the workers of most machines, so that they rarely meet.
const SHARD_COUNT: usize = 64;

/// Places a shard keeps when it holds less. Below this, giving memory back is not worth it.
const SPARE_PLACES: usize = 64;

/// Connections of each address.
#[derive(Debug)]
pub(crate) struct PerAddress {
    conns_max: AtomicU32,
    /// Which shard counts an address. Keyed at random, as the maps are: nobody can choose
    /// addresses that meet in one shard or in one place of it (row PS05 for another table).
    shard_of: RandomState,
    shards: Box<[Mutex<Counts>]>,
}

type Counts = HashMap<Source, NonZeroU32>;

/// One connection that was counted. It goes back to [`PerAddress::release`] when the connection
/// ends, or its address stays one connection poorer for ever.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "the connection stays counted until this is released"]
pub(crate) struct Admitted(Source);

// A worker may keep one beside each connection.
const _: () = assert!(size_of::<Option<Admitted>>() == 8);

impl PerAddress {
    /// Nobody connected, and so many connections for each address.
    pub(crate) fn new(conns_max: NonZeroU32) -> Self {
        let shards = (0..SHARD_COUNT).map(|_| Mutex::default()).collect();
        let conns_max = AtomicU32::new(conns_max.get());
        Self { conns_max, shard_of: RandomState::new(), shards }
    }

    /// An address has so many from now on; `None` is no limit. Those that are there stay.
    pub(crate) fn set_conns_max(&self, conns_max: Option<NonZeroU32>) {
        self.conns_max.store(conns_max.map_or(u32::MAX, NonZeroU32::get), Ordering::Relaxed);
    }

    /// Counts a connection from `addr`, unless it is one too many.
    pub(crate) fn try_admit(&self, addr: IpAddr) -> Option<Admitted> {
        let source = Source::of(addr);
        match self.shard(source).entry(source) {
            Entry::Vacant(place) => {
                place.insert(NonZeroU32::MIN);
            }
            Entry::Occupied(mut place) => {
                if place.get().get() >= self.conns_max.load(Ordering::Relaxed) {
                    return None;
                }
                *place.get_mut() = place.get().saturating_add(1);
            }
        }
        Some(Admitted(source))
    }

    /// The connection has ended.
    pub(crate) fn release(&self, admitted: Admitted) {
        let Admitted(source) = admitted;
        let mut counts = self.shard(source);
        let Entry::Occupied(mut place) = counts.entry(source) else {
            unreachable!("what was admitted here is counted until it is released");
        };
        match NonZeroU32::new(place.get().get() - 1) {
            Some(fewer) => *place.get_mut() = fewer,
            None => {
                place.remove();
                give_back(&mut counts);
            }
        }
    }

    fn shard(&self, source: Source) -> MutexGuard<'_, Counts> {
        let index = self.shard_of.hash_one(source) % SHARD_COUNT as u64;
        let index = usize::try_from(index).expect("it is less than the number of shards");
        // Each change is one store, so a panic of another worker has left nothing half done.
        self.shards[index].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Frees memory after a flood has ebbed away. What is left may double before there is more again,
/// so that this is seldom: its cost is spread over at least as many releases as it moves places.
fn give_back(counts: &mut Counts) {
    if counts.capacity() > SPARE_PLACES && counts.len() < counts.capacity() / 4 {
        counts.shrink_to(counts.len() * 2);
    }
}

/// Ticks in a second, and parts of one handshake in which is counted: what a tick gives back is a
/// whole number of them.
const PARTS: u64 = 8;

/// Handshakes that one worker begins per second. After a restart all clients come back; those
/// beyond what the server can take are told so at once and early, instead of timing out together.
#[derive(Debug)]
pub(crate) struct HandshakeRate {
    per_second: NonZeroU32,
    /// Parts of handshakes that may begin now.
    left: u64,
    at: Tick,
}

impl HandshakeRate {
    /// A full burst: a quarter of a second's, so that a wave is spread within the second, too.
    pub(crate) fn new(per_second: NonZeroU32, now: Tick) -> Self {
        Self { per_second, left: Self::burst(per_second), at: now }
    }

    /// The share of a worker, so that all together have `per_second`, each at least one.
    pub(crate) fn share(per_second: NonZeroU32, worker: usize, workers: usize) -> NonZeroU32 {
        let until = |worker: usize| u64::from(per_second.get()) * worker as u64 / workers as u64;
        let share = u32::try_from(until(worker + 1) - until(worker)).unwrap_or(u32::MAX);
        NonZeroU32::new(share).unwrap_or(NonZeroU32::MIN)
    }

    /// Begins one; false if that is one too many.
    pub(crate) fn take(&mut self, now: Tick) -> bool {
        let passed = u64::from(now.0.saturating_sub(self.at.0));
        let back = passed.saturating_mul(u64::from(self.per_second.get()));
        self.left = self.left.saturating_add(back).min(Self::burst(self.per_second));
        self.at = now;
        let enough = self.left >= PARTS;
        self.left -= if enough { PARTS } else { 0 };
        enough
    }

    fn burst(per_second: NonZeroU32) -> u64 {
        (u64::from(per_second.get()) * PARTS / 4).max(PARTS)
    }
}

/// An IPv4 address or the /64 of an IPv6 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Source(NonZeroU64);

impl Source {
    /// IPv4 addresses are put where the prefixes of multicast groups would be, which are no
    /// address of a peer.
    const V4: u64 = 0xFFFF_FFFF << 32;

    fn of(addr: IpAddr) -> Self {
        let number = match addr.to_canonical() {
            IpAddr::V4(addr) => Self::V4 | u64::from(addr.to_bits()),
            IpAddr::V6(addr) => prefix_of(addr),
        };
        // The prefix of `::1` is zero; the one after it belongs to nobody.
        Self(NonZeroU64::new(number).unwrap_or(NonZeroU64::MIN))
    }
}

fn prefix_of(addr: Ipv6Addr) -> u64 {
    let [a, b, c, d, ..] = addr.segments();
    [a, b, c, d].into_iter().fold(0, |prefix, segment| prefix << 16 | u64::from(segment))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;

    fn limit(conns: u32) -> PerAddress {
        PerAddress::new(NonZeroU32::new(conns).unwrap())
    }

    fn addr(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// Addresses that are counted, and places for more of them.
    fn held(limit: &PerAddress) -> (usize, usize) {
        limit.shards.iter().fold((0, 0), |(len, capacity), shard| {
            let counts = shard.lock().unwrap();
            (len + counts.len(), capacity + counts.capacity())
        })
    }

    #[test]
    fn tc06_address_has_as_many_connections_as_its_limit() {
        let limit = limit(3);
        let first = addr("192.0.2.1");
        let mut admitted: Vec<_> = (0..3).map(|_| limit.try_admit(first).unwrap()).collect();
        assert_eq!(limit.try_admit(first), None);
        assert!(limit.try_admit(addr("192.0.2.2")).is_some(), "another address has its own");
        limit.release(admitted.pop().unwrap());
        admitted.push(limit.try_admit(first).unwrap());
        assert_eq!(limit.try_admit(first), None);
        for one in admitted {
            limit.release(one);
        }
        assert!(limit.try_admit(first).is_some());
    }

    #[test]
    fn tc06_address_with_more_connections_than_a_lowered_limit_keeps_them() {
        let limit = limit(3);
        let first = addr("192.0.2.1");
        let mut admitted: Vec<_> = (0..3).map(|_| limit.try_admit(first).unwrap()).collect();
        limit.set_conns_max(NonZeroU32::new(1));
        limit.release(admitted.pop().unwrap());
        assert_eq!(limit.try_admit(first), None, "two are there, and one may be");
        limit.set_conns_max(None);
        admitted.extend((0..9).map(|_| limit.try_admit(first).unwrap()));
        for one in admitted {
            limit.release(one);
        }
        assert_eq!(held(&limit).0, 0);
    }

    #[test]
    fn px06_addresses_of_one_customer_are_one() {
        for (one, other, same) in [
            ("2001:db8:0:1::1", "2001:db8:0:1:ffff:ffff:ffff:ffff", true),
            ("2001:db8:0:1::1", "2001:db8:0:2::1", false),
            ("2001:db8::1", "2002:db8::1", false),
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("::ffff:192.0.2.1", "::ffff:192.0.2.2", false),
            ("127.0.0.1", "::1", false),
            ("0.0.0.1", "::1", false),
            ("::1", "::2", true),
        ] {
            let limit = limit(1);
            let _kept = limit.try_admit(addr(one)).unwrap();
            assert_eq!(limit.try_admit(addr(other)).is_none(), same, "{one} and {other}");
        }
    }

    #[test]
    fn handshakes_begin_at_their_rate_in_every_second_and_for_ever() {
        for rate in [1, 3, 7, 100, 5000] {
            let mut handshakes = HandshakeRate::new(NonZeroU32::new(rate).unwrap(), Tick(0));
            let mut begun = Vec::new();
            for second in 0..20_u32 {
                let ticks = second * 8..(second + 1) * 8;
                let tries = ticks.flat_map(|tick| (0..2000).map(move |_| tick));
                begun.push(tries.filter(|tick| handshakes.take(Tick(*tick))).count());
            }
            let (rate, burst) = (rate as usize, (rate as usize / 4).max(1));
            assert!(begun[0] <= rate + burst, "{rate}: {begun:?}");
            for second in &begun[1..] {
                assert!(second.abs_diff(rate) <= 1, "{rate}: {begun:?}");
            }
        }
    }

    #[test]
    fn handshakes_after_a_silence_are_a_burst_and_no_more() {
        let mut handshakes = HandshakeRate::new(NonZeroU32::new(40).unwrap(), Tick(0));
        let begun = (0..1000).filter(|_| handshakes.take(Tick(80_000))).count();
        assert_eq!(begun, 10);
    }

    #[test]
    fn shares_of_all_workers_are_the_whole_rate() {
        for (rate, workers) in [(1000, 3), (7, 7), (10, 4), (4_000_000_000, 1024)] {
            let rate = NonZeroU32::new(rate).unwrap();
            let share = |worker| u64::from(HandshakeRate::share(rate, worker, workers).get());
            assert_eq!((0..workers).map(share).sum::<u64>(), u64::from(rate.get()));
        }
    }

    #[test]
    fn memory_returns_to_its_baseline_when_a_flood_ends() {
        let limit = limit(1);
        let count: u32 = if cfg!(miri) { 3_000 } else { 200_000 };
        let flood: Vec<_> =
            (0..count).map(|n| limit.try_admit(Ipv4Addr::from_bits(n).into()).unwrap()).collect();
        let (len, capacity) = held(&limit);
        assert_eq!(len, flood.len());
        assert!(capacity >= len);
        for one in flood {
            limit.release(one);
        }
        let (len, capacity) = held(&limit);
        assert_eq!(len, 0);
        assert!(capacity <= SHARD_COUNT * SPARE_PLACES, "{capacity} places for nobody");
    }

    #[test]
    fn tc06_threads_never_exceed_the_limit_together() {
        const CONNS_MAX: u32 = 5;
        let limit = limit(CONNS_MAX);
        let open: Vec<AtomicUsize> = (0..4).map(|_| AtomicUsize::new(0)).collect();
        let refused = AtomicUsize::new(0);
        thread::scope(|scope| {
            for seed in 0..4 {
                let (limit, open, refused) = (&limit, &open, &refused);
                scope.spawn(move || {
                    let mut random = fastrand::Rng::with_seed(seed);
                    let mut mine = Vec::new();
                    for _ in 0..if cfg!(miri) { 200 } else { 50_000 } {
                        let which = random.usize(..open.len());
                        if random.bool() && mine.len() < 20 {
                            let from = Ipv4Addr::from_bits(u32::try_from(which).unwrap());
                            let Some(one) = limit.try_admit(from.into()) else {
                                refused.fetch_add(1, Ordering::Relaxed);
                                continue;
                            };
                            let before = open[which].fetch_add(1, Ordering::SeqCst);
                            assert!(before < CONNS_MAX as usize, "{before} were open already");
                            mine.push((which, one));
                        } else if let Some((which, one)) = mine.pop() {
                            open[which].fetch_sub(1, Ordering::SeqCst);
                            limit.release(one);
                        }
                    }
                    for (which, one) in mine {
                        open[which].fetch_sub(1, Ordering::SeqCst);
                        limit.release(one);
                    }
                });
            }
        });
        assert!(refused.into_inner() > 0, "the limit was never reached");
        assert_eq!(held(&limit).0, 0);
    }
}
