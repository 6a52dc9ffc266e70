//! What goes wrong in the simulated network, how often, and the dice that decide it.
//!
//! All chance of a simulation comes from one generator with one seed, and nothing else (no time, no
//! address, no hash order) enters a decision: a seed that fails once fails every time.

use std::io;
use std::time::Duration;

use rustix::io::Errno;

/// How often each fault strikes, in thousandths of its opportunities.
///
/// None may reach 1000: a fault that always strikes is a network in which nothing ever happens.
#[derive(Clone, Debug)]
pub(crate) struct FaultConfig {
    /// A receive delivers less than there is.
    pub(crate) short_receive: u16,
    /// A send takes less than the peer's window allows.
    pub(crate) short_send: u16,
    /// A send under `Patience::Try` takes nothing although there is room.
    pub(crate) refused_try: u16,
    /// The connection breaks; drawn at each receive, send and accept.
    pub(crate) reset: u16,
    /// The next completion is a random one of those that are ready.
    pub(crate) reorder: u16,
    /// A completion takes up to `delay_max` instead of being ready at once.
    pub(crate) delay: u16,
    /// Longest delay.
    pub(crate) delay_max: Duration,
    /// Drawn once per turn: there are no blocks for up to `delay_max`.
    pub(crate) shortage: u16,
    /// Descriptors or memory have run out when a peer connects, for up to half a second.
    pub(crate) exhausted: u16,
    /// A peer is gone before it is accepted.
    pub(crate) aborted: u16,
    /// A socket cannot be attached.
    pub(crate) unattachable: u16,
    /// Drawn once per turn: a wake that nobody sent.
    pub(crate) spurious_wake: u16,
    /// An event of the kernel comes twice, the second time late, perhaps in the next use of the
    /// slot.
    pub(crate) duplicate: u16,
    /// What had happened before `submit_close`, `pause_accept` or `Failed` is still reported.
    pub(crate) late: u16,
    /// `poll_completion` ends the round although more is ready.
    pub(crate) cut_round: u16,
    /// Drawn once per turn: the clock jumps by up to `skip_max`.
    pub(crate) skip: u16,
    /// Longest jump of the clock.
    pub(crate) skip_max: Duration,
    /// Unread bytes a peer accepts until its test says otherwise.
    pub(crate) window_bytes: usize,
    /// Listeners; each peer comes by one of them.
    pub(crate) listeners: u8,
    /// Whether to keep every completion for `Net::trace`, and not just their hash.
    pub(crate) keep_trace: bool,
}

impl FaultConfig {
    /// A network in which everything works at once.
    pub(crate) fn none() -> Self {
        Self {
            short_receive: 0,
            short_send: 0,
            refused_try: 0,
            reset: 0,
            reorder: 0,
            delay: 0,
            delay_max: Duration::from_millis(5),
            shortage: 0,
            exhausted: 0,
            aborted: 0,
            unattachable: 0,
            spurious_wake: 0,
            duplicate: 0,
            late: 0,
            cut_round: 0,
            skip: 0,
            skip_max: Duration::from_secs(180),
            window_bytes: 256 * 1024,
            listeners: 1,
            keep_trace: false,
        }
    }

    /// A mix drawn from the seed.
    ///
    /// Each fault is absent, rare or frequent by itself. When all were always on, each would hide
    /// what the others lead to: a connection that is reset early never has a long backlog.
    pub(crate) fn from_seed(seed: u64) -> Self {
        // Not the generator of the run itself, or the faults would follow from the first draws.
        let mut rng = fastrand::Rng::with_seed(seed ^ 0x5EED_FA17);
        let mut level = |rare: u16, frequent: u16| match rng.u8(0..4) {
            0 | 1 => 0,
            2 => rare,
            _ => frequent,
        };
        Self {
            short_receive: level(50, 700),
            short_send: level(50, 700),
            refused_try: level(30, 400),
            reset: level(1, 20),
            reorder: level(100, 800),
            delay: level(50, 500),
            shortage: level(5, 60),
            exhausted: level(10, 150),
            aborted: level(10, 100),
            unattachable: level(5, 50),
            spurious_wake: level(10, 100),
            duplicate: level(20, 200),
            late: level(300, 800),
            cut_round: level(20, 200),
            skip: level(1, 10),
            listeners: rng.u8(1..=3),
            ..Self::none()
        }
    }

    fn check(&self) {
        let chances = [
            self.short_receive,
            self.short_send,
            self.refused_try,
            self.reset,
            self.reorder,
            self.delay,
            self.shortage,
            self.exhausted,
            self.aborted,
            self.unattachable,
            self.spurious_wake,
            self.duplicate,
            self.late,
            self.cut_round,
            self.skip,
        ];
        assert!(self.listeners > 0, "a peer comes by some listener");
        assert!(chances.iter().all(|&chance| chance < 1000), "a fault leaves room for progress");
    }
}

/// The only source of chance.
#[derive(Debug)]
pub(super) struct Dice {
    rng: fastrand::Rng,
    pub(super) config: FaultConfig,
}

impl Dice {
    pub(super) fn new(seed: u64, config: FaultConfig) -> Self {
        config.check();
        Self { rng: fastrand::Rng::with_seed(seed), config }
    }

    /// Whether something of this chance strikes now. Costs no draw when it is switched off.
    pub(super) fn hits(&mut self, thousandths: u16) -> bool {
        thousandths != 0 && self.rng.u16(0..1000) < thousandths
    }

    /// One of `count` things.
    pub(super) fn pick(&mut self, count: usize) -> usize {
        self.rng.usize(0..count)
    }

    /// How much of `len` a short operation moves: often a single byte, at least that.
    pub(super) fn short(&mut self, len: usize) -> usize {
        if self.rng.u8(0..4) == 0 { 1 } else { self.rng.usize(1..=len) }
    }

    /// A time from 1 us to `max`.
    pub(super) fn delay(&mut self, max: Duration) -> Duration {
        let micros = u64::try_from(max.as_micros()).unwrap_or(u64::MAX).max(1);
        Duration::from_micros(self.rng.u64(1..=micros))
    }

    /// Why a connection broke.
    pub(super) fn break_error(&mut self) -> io::Error {
        self.error(&[Errno::CONNRESET, Errno::PIPE, Errno::TIMEDOUT, Errno::HOSTUNREACH])
    }

    /// Why nobody can be accepted (TC01, TC02, TC04).
    pub(super) fn exhausted_error(&mut self) -> io::Error {
        self.error(&[Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM])
    }

    /// Why one peer could not be accepted (TC03).
    pub(super) fn aborted_error(&mut self) -> io::Error {
        self.error(&[Errno::CONNABORTED, Errno::PROTO, Errno::PERM, Errno::NETDOWN])
    }

    /// Why a socket could not be attached.
    pub(super) fn attach_error(&mut self) -> io::Error {
        self.error(&[Errno::NOMEM, Errno::NOSPC])
    }

    fn error(&mut self, choice: &[Errno]) -> io::Error {
        choice[self.pick(choice.len())].into()
    }
}

/// Names the seed when a test panics, whoever's assertion it was that failed.
#[derive(Debug)]
pub(crate) struct SeedOnPanic(pub(crate) u64);

impl Drop for SeedOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the failing seed is {}", self.0);
        }
    }
}
