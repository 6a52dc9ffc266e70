//! What single operations of the simulated driver do, and what it refuses.

use std::time::Duration;

use crate::buf::{Block, Pool, PoolConfig, Segment};
use crate::io::sim::{FaultConfig, Net, PeerId, SimDriver, SimSocket};
use crate::io::wake::Wake;
use crate::io::{Closing, Completion, Driver, Patience, Token};

const TOKEN: Token = Token { index: 3, generation: 9 };

/// A driver, its blocks, and a network without faults unless a test adds some.
struct Bench {
    driver: SimDriver,
    pool: Pool,
    net: Net,
}

impl Bench {
    fn new(config: FaultConfig) -> Self {
        let driver = SimDriver::new(7, config);
        let net = driver.net();
        let pool = Pool::new(PoolConfig { receive_blocks_max: 2, spare_bytes_max: 0 });
        Self { driver, pool, net }
    }

    /// With one peer, attached under `TOKEN`.
    fn connected() -> (Self, PeerId) {
        let mut bench = Self::new(FaultConfig::none());
        let id = bench.net.connect();
        bench.attach(TOKEN);
        (bench, id)
    }

    fn attach(&mut self, token: Token) {
        let socket = self.accepted();
        self.driver.attach(token, socket).unwrap();
    }

    fn accepted(&mut self) -> SimSocket {
        match self.poll() {
            Some(Completion::Accepted { socket, .. }) => socket,
            other => panic!("expected a socket, got {other:?}"),
        }
    }

    fn poll(&mut self) -> Option<Completion<SimSocket>> {
        self.driver.poll_completion(&mut self.pool)
    }

    fn received(&mut self) -> Vec<u8> {
        match self.poll() {
            Some(Completion::Received { token: TOKEN, block, len }) => {
                assert_eq!(block.bytes()[len], 0xDB, "what lies behind is poisoned");
                let bytes = block.bytes()[..len].to_vec();
                self.pool.give(block);
                bytes
            }
            other => panic!("expected bytes, got {other:?}"),
        }
    }

    fn send(&mut self, len: usize, patience: Patience) {
        let mut block = self.pool.take(len);
        block.bytes_mut()[..len].fill(b'x');
        self.driver.submit_send(TOKEN, Segment::new(block, 0, len), patience);
    }

    fn sent(&mut self) -> usize {
        match self.poll() {
            Some(Completion::Sent { token: TOKEN, segment, sent }) => {
                self.pool.give(segment.block);
                sent
            }
            other => panic!("expected an answer to a send, got {other:?}"),
        }
    }

    fn close(&mut self, closing: Closing) {
        self.driver.submit_close(TOKEN, closing);
        assert!(matches!(self.poll(), Some(Completion::Closed { token: TOKEN })));
        assert!(self.poll().is_none());
        assert_eq!(self.pool.lent_count(), 0);
        self.net.assert_quiescent();
    }
}

#[test]
fn bytes_arrive_and_the_end_of_the_stream_follows() {
    let (mut bench, id) = Bench::connected();
    assert_eq!(bench.net.token_of(id), Some(TOKEN));
    assert_eq!(bench.driver.peer_addr(TOKEN).unwrap().to_string(), "10.0.0.0:49152");
    bench.net.peer_write(id, b"hello");
    bench.net.peer_shutdown(id);
    assert_eq!(bench.net.peer_unreceived(id), 5);
    assert_eq!(bench.received(), b"hello");
    assert!(matches!(bench.poll(), Some(Completion::PeerClosed { token: TOKEN })));
    assert!(bench.poll().is_none());
    bench.driver.shutdown_write(TOKEN);
    assert!(bench.net.peer_sees_fin(id) && !bench.net.is_closed(id));
    bench.close(Closing::Orderly);
    assert!(bench.net.is_closed(id) && !bench.net.peer_sees_reset(id));
}

#[test]
fn receive_into_fills_its_place_and_nothing_before_it() {
    let (mut bench, id) = Bench::connected();
    let block = bench.pool.take(1000);
    bench.driver.submit_receive_into(TOKEN, block, 100, 104);
    bench.net.peer_write(id, b"abcdef");
    let Some(Completion::ReceivedInto { block, len, .. }) = bench.poll() else { panic!() };
    assert_eq!((len, &block.bytes()[99..105]), (4, &b"\0abcd\0"[..]));
    bench.pool.give(block);
    assert_eq!(bench.received(), b"ef", "the place holds for one completion");
    let block = bench.pool.take(1000);
    bench.driver.submit_receive_into(TOKEN, block, 0, 10);
    bench.net.peer_shutdown(id);
    assert!(matches!(bench.poll(), Some(Completion::PeerClosed { .. })));
    assert_eq!(bench.pool.lent_count(), 0, "the waiting block came back");
    bench.close(Closing::Orderly);
}

#[test]
fn receive_pauses_and_goes_on() {
    let (mut bench, id) = Bench::connected();
    bench.net.peer_write(id, b"one");
    bench.driver.pause_receive(TOKEN);
    assert!(bench.poll().is_none());
    bench.net.peer_write(id, b"two");
    assert!(bench.poll().is_none());
    bench.driver.resume_receive(TOKEN);
    assert_eq!(bench.received(), b"onetwo");
}

#[test]
fn patient_send_waits_for_the_peer_and_the_other_does_not() {
    let (mut bench, id) = Bench::connected();
    bench.net.peer_window(id, 4);
    bench.send(10, Patience::Try);
    assert_eq!(bench.sent(), 4);
    bench.send(6, Patience::Try);
    assert_eq!(bench.sent(), 0);
    bench.send(6, Patience::Wait);
    assert!(bench.poll().is_none());
    assert_eq!(bench.net.blocks_held(), 1);
    assert_eq!(bench.net.peer_read(id), b"xxxx");
    assert_eq!(bench.sent(), 4);
    bench.send(2, Patience::Wait);
    assert!(bench.poll().is_none());
    bench.net.peer_window(id, 100);
    assert_eq!(bench.sent(), 2);
    assert_eq!(bench.net.peer_read(id), b"xxxxxx");
}

#[test]
fn driver_that_sends_at_once_has_sent_before_it_is_polled() {
    for seed in 0..10 {
        let mut driver = SimDriver::new(seed, FaultConfig::none()).sending_at_once();
        let mut pool = Pool::new(PoolConfig { receive_blocks_max: 2, spare_bytes_max: 0 });
        let id = driver.net().connect();
        let completion = driver.poll_completion(&mut pool);
        let Some(Completion::Accepted { socket, .. }) = completion else { panic!("seed {seed}") };
        driver.attach(TOKEN, socket).unwrap();
        let segment = Segment::new(pool.take(5), 0, 5);
        driver.submit_send(TOKEN, segment, Patience::Try);
        assert_eq!(driver.net().peer_read(id).len(), 5, "seed {seed}");
    }
}

#[test]
fn reset_is_told_once_and_takes_the_send_along() {
    let (mut bench, id) = Bench::connected();
    bench.net.peer_window(id, 0);
    bench.send(10, Patience::Wait);
    bench.net.peer_reset(id);
    bench.net.peer_write(id, b"into the void");
    assert!(matches!(bench.poll(), Some(Completion::Failed { token: TOKEN, .. })));
    assert!(bench.poll().is_none());
    assert!(bench.net.peer_sees_reset(id) && !bench.net.was_broken(id));
    bench.close(Closing::Reset);
}

#[test]
fn close_returns_every_block_in_flight() {
    let config = FaultConfig { delay: 999, ..FaultConfig::none() };
    let mut bench = Bench::new(config);
    let id = bench.net.connect();
    while bench.net.stats().accepted == 0 {
        if let Some(Completion::Accepted { socket, .. }) = bench.poll() {
            bench.driver.attach(TOKEN, socket).unwrap();
        }
        bench.driver.wait(None).unwrap();
    }
    bench.net.peer_window(id, 0);
    bench.net.peer_write(id, b"unread");
    while bench.net.blocks_held() == 0 {
        assert!(bench.poll().is_none());
        bench.driver.wait(None).unwrap();
    }
    let block = bench.pool.take(300);
    bench.driver.submit_receive_into(TOKEN, block, 0, 300);
    bench.send(10, Patience::Wait);
    assert_eq!(bench.net.blocks_held(), 3, "a receive, its next place, and a send");
    bench.driver.submit_close(TOKEN, Closing::Orderly);
    let mut closed_count = 0;
    while bench.net.stats().sleeps < 3 {
        match bench.poll() {
            None => bench.driver.wait(None).unwrap(),
            Some(Completion::Closed { .. }) => closed_count += 1,
            Some(other) => panic!("{other:?}"),
        }
    }
    assert_eq!(closed_count, 1);
    assert_eq!(bench.pool.lent_count(), 0);
    bench.net.assert_quiescent();
}

#[test]
fn late_event_of_an_earlier_use_touches_nothing() {
    let mut bench = Bench::new(FaultConfig { duplicate: 999, ..FaultConfig::none() });
    let id = bench.net.connect();
    bench.attach(TOKEN);
    bench.driver.submit_close(TOKEN, Closing::Orderly);
    assert!(matches!(bench.poll(), Some(Completion::Closed { .. })));
    let next = Token { generation: Token::next_generation(TOKEN.generation), ..TOKEN };
    let later_id = bench.net.connect();
    bench.attach(next);
    bench.net.advance(Duration::from_secs(1));
    assert!(bench.poll().is_none());
    assert!(bench.net.stats().stale > 0, "the close of the first use came again");
    assert!(bench.net.is_closed(id) && !bench.net.is_closed(later_id));
}

#[test]
fn close_with_unread_input_resets_the_peer() {
    let (mut bench, id) = Bench::connected();
    bench.send(8, Patience::Try);
    assert_eq!(bench.sent(), 8);
    bench.net.peer_write(id, b"unread");
    bench.driver.pause_receive(TOKEN);
    bench.close(Closing::Orderly);
    assert!(bench.net.peer_sees_reset(id) && !bench.net.peer_sees_fin(id));
}

#[test]
fn write_to_a_closed_server_resets_the_peer() {
    let (mut bench, id) = Bench::connected();
    bench.close(Closing::Orderly);
    assert!(bench.net.peer_sees_fin(id));
    bench.net.peer_write(id, b"too late");
    assert!(bench.net.peer_sees_reset(id));
}

#[test]
fn exhausted_accept_pauses_until_it_is_resumed() {
    let mut bench = Bench::new(FaultConfig { exhausted: 999, ..FaultConfig::none() });
    let (first, second) = (bench.net.connect(), bench.net.connect());
    let exhausted = |completion: Option<Completion<SimSocket>>| {
        matches!(completion, Some(Completion::AcceptFailed { exhausted: true, .. }))
    };
    assert!(exhausted(bench.poll()));
    assert!(bench.poll().is_none(), "accepting is paused");
    bench.driver.resume_accept();
    assert!(exhausted(bench.poll()));
    assert!(bench.driver.shed_one());
    assert!(bench.net.is_closed(first) && !bench.net.is_closed(second));
    assert!(bench.driver.shed_one());
    assert!(!bench.driver.shed_one());
    assert_eq!(bench.net.stats().accepts_exhausted, 2);
}

#[test]
fn one_lost_peer_does_not_stop_accepting() {
    let mut bench = Bench::new(FaultConfig { aborted: 500, ..FaultConfig::none() });
    let ids: Vec<_> = (0..50).map(|_| bench.net.connect()).collect();
    let mut accepted_count = 0;
    while let Some(completion) = bench.poll() {
        match completion {
            Completion::Accepted { socket, .. } => {
                accepted_count += 1;
                drop(socket);
            }
            Completion::AcceptFailed { exhausted, .. } => assert!(!exhausted),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(accepted_count + bench.net.stats().accepts_aborted, 50);
    assert!(ids.iter().all(|&id| bench.net.is_closed(id)), "a dropped socket is closed");
    assert!(ids.iter().any(|&id| bench.net.peer_sees_fin(id)));
    bench.net.assert_quiescent();
}

#[test]
fn peers_of_several_listeners_are_told_apart() {
    let mut bench = Bench::new(FaultConfig { listeners: 3, ..FaultConfig::none() });
    let ids: Vec<_> = (0..60).map(|_| bench.net.connect()).collect();
    let mut accepted: [Vec<PeerId>; 3] = Default::default();
    while let Some(Completion::Accepted { socket, listener }) = bench.poll() {
        assert_eq!(bench.net.listener_of(socket.peer), listener);
        accepted[usize::from(listener)].push(socket.peer);
    }
    assert_eq!(accepted.iter().map(Vec::len).sum::<usize>(), ids.len());
    for peers in accepted {
        assert!(!peers.is_empty());
        assert!(peers.is_sorted(), "each listener hands them over in the order they came in");
    }
}

#[test]
fn paused_and_closed_listeners_accept_nobody() {
    let mut bench = Bench::new(FaultConfig::none());
    bench.driver.pause_accept();
    let waiting = bench.net.connect();
    assert!(bench.poll().is_none());
    bench.driver.resume_accept();
    drop(bench.accepted());
    assert!(bench.net.is_closed(waiting));
    let abandoned = bench.net.connect();
    bench.driver.close_listeners();
    let refused = bench.net.connect();
    assert!(bench.poll().is_none());
    assert!(bench.net.peer_sees_reset(abandoned) && bench.net.is_closed(refused));
}

#[test]
fn wait_passes_virtual_time_to_the_nearest_of_timeout_event_and_horizon() {
    let mut bench = Bench::new(FaultConfig::none());
    let start = bench.driver.now();
    let turn = Duration::from_micros(2);
    bench.driver.wait(Some(Duration::from_secs(3600))).unwrap();
    assert_eq!(bench.driver.now() - start, Duration::from_secs(3600) + turn);
    bench.net.set_horizon(Some(Duration::from_secs(3601)));
    bench.driver.wait(None).unwrap();
    assert_eq!(bench.net.elapsed(), Duration::from_secs(3601));
    bench.net.set_horizon(None);
    bench.driver.wait(None).unwrap();
    assert_eq!(bench.net.stats().sleeps, 1, "nothing will ever happen, and that shows");
    bench.net.connect();
    bench.driver.wait(Some(Duration::MAX)).unwrap();
    let elapsed = bench.net.elapsed();
    assert_eq!(elapsed, Duration::from_secs(3601) + 2 * turn, "a peer waits: no time to sleep");
}

#[test]
fn clock_jumps_between_turns() {
    let mut bench = Bench::new(FaultConfig { skip: 500, ..FaultConfig::none() });
    for _ in 0..20 {
        bench.driver.wait(Some(Duration::from_millis(1))).unwrap();
    }
    assert!(bench.net.stats().skips > 0);
    assert!(bench.net.elapsed() > Duration::from_secs(5));
}

#[test]
fn spin_is_counted_until_something_happens() {
    let mut bench = Bench::new(FaultConfig::none());
    for _ in 0..5 {
        assert!(bench.poll().is_none());
        bench.driver.wait(Some(Duration::ZERO)).unwrap();
    }
    assert_eq!(bench.net.stats().spin_now, 5);
    bench.net.connect();
    drop(bench.accepted());
    assert_eq!((bench.net.stats().spin_now, bench.net.stats().spin_longest), (0, 5));
}

#[test]
fn both_wake_handles_end_the_wait_once() {
    let wake = Wake::new().unwrap();
    let mut bench = Bench::new(FaultConfig { keep_trace: true, ..FaultConfig::none() });
    bench.driver = bench.driver.with_wake(wake.clone());
    wake.wake();
    wake.wake();
    bench.driver.wait(Some(Duration::from_secs(1))).unwrap();
    assert!(matches!(bench.poll(), Some(Completion::Woken)));
    bench.net.wake();
    bench.net.wake();
    assert!(matches!(bench.poll(), Some(Completion::Woken)));
    assert!(bench.poll().is_none());
    assert!(bench.net.elapsed() < Duration::from_millis(1));
    let trace = bench.net.trace();
    assert!(trace.len() == 2 && trace.iter().all(|entry| entry.name == "Woken"));
}

#[test]
#[should_panic(expected = "second send in flight")]
fn second_send_in_flight_is_caught() {
    let (mut bench, _) = Bench::connected();
    bench.send(1, Patience::Wait);
    bench.send(1, Patience::Wait);
}

#[test]
#[should_panic(expected = "after `submit_close`")]
fn operation_after_close_is_caught() {
    let (mut bench, _) = Bench::connected();
    bench.driver.submit_close(TOKEN, Closing::Orderly);
    bench.driver.pause_receive(TOKEN);
}

#[test]
#[should_panic(expected = "stale token")]
fn stale_token_is_caught() {
    let (mut bench, _) = Bench::connected();
    let stale = Token { generation: TOKEN.generation - 1, ..TOKEN };
    bench.driver.resume_receive(stale);
}

#[test]
#[should_panic(expected = "with a send in flight")]
fn half_close_with_a_send_in_flight_is_caught() {
    let (mut bench, _) = Bench::connected();
    bench.send(1, Patience::Try);
    bench.driver.shutdown_write(TOKEN);
}

#[test]
#[should_panic(expected = "may follow `Failed`")]
fn operation_after_failure_is_caught() {
    let (mut bench, id) = Bench::connected();
    bench.net.peer_reset(id);
    assert!(matches!(bench.poll(), Some(Completion::Failed { .. })));
    bench.send(1, Patience::Try);
}

#[test]
#[should_panic(expected = "the slot is in use")]
fn slot_reuse_before_closed_is_caught() {
    let (mut bench, _) = Bench::connected();
    bench.net.connect();
    bench.driver.submit_close(TOKEN, Closing::Reset);
    // The peer connected before the close was submitted, so its socket comes first.
    let socket = bench.accepted();
    let next = Token { generation: TOKEN.generation + 1, ..TOKEN };
    let _ = bench.driver.attach(next, socket);
}

#[test]
#[should_panic(expected = "given back twice")]
fn block_that_the_pool_never_lent_is_caught() {
    let (mut bench, id) = Bench::connected();
    bench.net.peer_window(id, 0);
    let segment = Segment::new(Block::zeroed(10), 0, 10);
    bench.driver.submit_send(TOKEN, segment, Patience::Wait);
    bench.poll();
}
