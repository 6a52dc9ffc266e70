//! Subscribers that do not read, under each policy, beside one that does.

use longwire::{BackendChoice, Builder, Delivery, Overflow, SlowReaders, TopicPolicy};

use crate::client::{BINARY, Client, frame};
use crate::server::{builder, on_every_backend};
use crate::topics::{Site, narrow};

const MESSAGE_BYTES: usize = 32 * 1024;
/// More than the sockets of a slow reader take.
const MESSAGES_MAX: usize = 2000;

/// A site with one slow and one good subscriber of "all".
struct Test {
    site: Site,
    slow: Client,
    good: Client,
    published: usize,
}

impl Test {
    fn start(backend: BackendChoice, slow_readers: SlowReaders) -> Self {
        Self::start_with(backend, builder(backend), slow_readers)
    }

    fn start_with(backend: BackendChoice, settings: Builder, slow_readers: SlowReaders) -> Self {
        let policy = TopicPolicy::new().slow_readers(slow_readers);
        let settings = settings.send_bytes_max(256 * 1024).topic_policy(move |_| policy);
        let site = Site::start(backend, settings);
        let slow = narrow(site.server.addr, "/all");
        site.next_open();
        let (good, _) = site.open("/all");
        Self { site, slow, good, published: 0 }
    }

    /// Publishes one message, and lets the good subscriber read it.
    fn publish(&mut self) -> Delivery {
        let payload = crate::app::flood_payload(self.published, MESSAGE_BYTES);
        self.published += 1;
        let told = self.site.publish("all", &payload);
        assert!(self.good.read_frame().payload == payload, "the good one gets everything");
        told
    }

    /// Publishes until messages are lost, and then so many more.
    fn publish_until_lost(&mut self, more: usize) {
        while self.dropped() == 0 {
            assert!(self.published < MESSAGES_MAX, "nothing is lost");
            let told = self.publish();
            assert_eq!(told, Delivery { queued: 2, refused: 0 });
        }
        for _ in 0..more {
            self.publish();
        }
    }

    fn dropped(&self) -> usize {
        usize::try_from(self.site.handle().stats().dropped).unwrap()
    }

    /// The numbers of the messages that the slow one gets, up to the last that was published.
    fn read_slow(&mut self) -> Vec<usize> {
        let payloads: Vec<Vec<u8>> =
            (0..self.published).map(|n| crate::app::flood_payload(n, MESSAGE_BYTES)).collect();
        let mut numbers = Vec::new();
        while numbers.last() != Some(&(self.published - 1)) {
            let read = self.slow.read_frame();
            let from = numbers.last().map_or(0, |last| last + 1);
            let place = payloads[from..].iter().position(|payload| *payload == read.payload);
            numbers.push(from + place.expect("a message, once and in order"));
        }
        numbers
    }
}

#[test]
fn bp01_subscriber_that_does_not_read_is_closed_with_1013_and_nobody_else() {
    on_every_backend(|backend| {
        let mut test = Test::start(backend, SlowReaders::Close);
        let refused = loop {
            assert!(test.published < MESSAGES_MAX, "its queue is never full");
            let told = test.publish();
            if told.refused > 0 {
                break told;
            }
            assert_eq!(told.queued, 2);
        };
        assert_eq!(refused, Delivery { queued: 1, refused: 1 });
        assert_eq!(test.publish(), Delivery { queued: 1, refused: 0 }, "it is no subscriber now");
        for number in 0..test.published - 2 {
            let expected = crate::app::flood_payload(number, MESSAGE_BYTES);
            assert!(test.slow.read_frame().payload == expected, "message {number}");
        }
        test.slow.expect_failure(1013);
        assert_eq!(test.site.server.stop().failures[&1013], 1);
    });
}

#[test]
fn oldest_messages_are_dropped_for_a_subscriber_that_does_not_read() {
    on_every_backend(|backend| {
        let mut test = Test::start(backend, SlowReaders::DropOldest(8));
        test.publish_until_lost(30);
        let numbers = test.read_slow();
        let newest: Vec<usize> = (test.published - 8..test.published).collect();
        assert!(numbers.ends_with(&newest), "the last eight are kept: {numbers:?}");
        let lost = test.published - numbers.len();
        assert!(lost >= 30 - 8, "{lost} of {}", test.published);
        assert_eq!(test.dropped(), lost, "what is lost is counted");
        // It reads again, and so loses nothing more.
        for _ in 0..5 {
            test.publish();
            assert_eq!(test.read_slow_one(), test.published - 1);
        }
        assert_eq!(test.dropped(), lost);
    });
}

#[test]
fn only_the_latest_message_is_sent_to_a_subscriber_that_reads_again() {
    on_every_backend(|backend| {
        let mut test = Test::start(backend, SlowReaders::Latest);
        test.publish_until_lost(30);
        let numbers = test.read_slow();
        let [.., before, last] = numbers[..] else { panic!("{numbers:?}") };
        assert_eq!(last, test.published - 1, "the newest");
        assert!(last - before > 30, "and none of those it has replaced: {numbers:?}");
        assert_eq!(test.dropped(), test.published - numbers.len());
        test.publish();
        assert_eq!(test.read_slow_one(), test.published - 1);
    });
}

#[test]
fn each_message_of_a_turn_that_a_full_queue_loses_is_counted() {
    on_every_backend(|backend| {
        let settings = builder(backend).overflow(Overflow::Drop);
        let mut test = Test::start_with(backend, settings, SlowReaders::Close);
        let mut refused = 0;
        while refused == 0 {
            assert!(test.published < MESSAGES_MAX, "its queue is never full");
            refused = test.publish().refused;
        }
        assert_eq!(test.dropped(), 1);
        let (mut publisher, _) = test.site.open("/-all");
        publisher.send_raw(&frame(true, BINARY, b"some in a turn").repeat(7));
        for _ in 0..7 {
            assert_eq!(test.good.read_frame().payload, b"some in a turn");
        }
        assert_eq!(test.publish(), Delivery { queued: 1, refused: 1 }, "it is still a subscriber");
        assert_eq!(test.dropped(), 1 + 7 + 1);
    });
}

impl Test {
    /// The number of the next message that the slow one gets, which is the last.
    fn read_slow_one(&mut self) -> usize {
        let number = self.published - 1;
        let expected = crate::app::flood_payload(number, MESSAGE_BYTES);
        assert!(self.slow.read_frame().payload == expected, "message {number}");
        number
    }
}
