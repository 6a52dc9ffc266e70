//! Topics over real sockets: two workers, publishers on connections and on other threads, and
//! subscribers that read at once, late, or never.

use std::collections::VecDeque;
use std::future::Future;
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use longwire::{
    BackendChoice, Builder, CloseCode, Compression, Conn, ConnId, Conns, Decision, Delivery,
    Handle, Handler, InvalidTopic, Message, Payload, PublishError, Request, SubscribeError,
    TopicPolicy,
};

use crate::certificates::Authority;
use crate::client::{BINARY, Client, Frame, TEXT, frame};
use crate::compressed;
use crate::secure::{secure_addr, secured};
use crate::server::{Running, builder, on_every_backend, usable_cores};

/// Longer than anything takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

/// Subscribes each connection to the topic in its path, and publishes there what it says.
struct Hub {
    worker: usize,
    opened: Sender<(usize, ConnId)>,
    /// What was said while another core took no more.
    waiting: VecDeque<(String, Vec<u8>)>,
}

impl Hub {
    fn publish(&mut self, conn: &mut Conn<'_, String>, bytes: &[u8]) {
        let topic = conn.state().clone();
        if self.waiting.is_empty() {
            match conn.publish(&topic, bytes) {
                Ok(receipt) => return drop(receipt),
                Err(error) => assert_eq!(error, PublishError::Busy),
            }
        }
        self.waiting.push_back((topic, bytes.to_vec()));
    }
}

impl Handler for Hub {
    type State = String;

    fn upgrade(&mut self, request: &Request<'_>) -> Decision<String> {
        Decision::accept(request.path().trim_start_matches('/').to_owned())
    }

    fn open(&mut self, conn: &mut Conn<'_, String>) {
        let topic = conn.state().clone();
        if !topic.is_empty() && !topic.starts_with('-') {
            assert_eq!(conn.subscribe(&topic), Ok(true));
        }
        *conn.state() = topic.trim_start_matches('-').to_owned();
        let _ = self.opened.send((self.worker, conn.id()));
    }

    fn message(&mut self, conn: &mut Conn<'_, String>, message: Message<'_>) {
        match message.text().map(|text| text.split(' ').collect::<Vec<_>>()).as_deref() {
            Some(["sleep", millis]) => {
                thread::sleep(Duration::from_millis(millis.parse().unwrap()))
            }
            Some(["subscribe", topic]) => {
                let subscribed = format!("{:?}", conn.subscribe(topic));
                conn.send(&subscribed).unwrap();
            }
            Some(["unsubscribe", topic]) => {
                let was = conn.unsubscribe(topic).to_string();
                conn.send(&was).unwrap();
            }
            Some(["echo", text]) => {
                conn.send(*text).unwrap();
            }
            Some(["leave"]) => {
                conn.close(CloseCode::NORMAL, "as you wish");
                assert_eq!(conn.subscribe("b"), Err(SubscribeError::Closed));
            }
            _ => self.publish(conn, message.payload()),
        }
    }

    fn turn(&mut self, conns: &mut Conns<'_, String>) -> Option<Instant> {
        while let Some((topic, bytes)) = self.waiting.front() {
            if conns.publish(topic, bytes).is_err() {
                return Some(conns.now() + Duration::from_millis(1));
            }
            self.waiting.pop_front();
        }
        None
    }
}

/// A server with a [`Hub`] on each of two workers.
pub(crate) struct Site {
    pub(crate) server: Running,
    opened: Receiver<(usize, ConnId)>,
}

impl Site {
    pub(crate) fn start(backend: BackendChoice, settings: Builder) -> Self {
        Self::start_with(backend, settings, 2)
    }

    /// The same on so many workers.
    fn start_with(backend: BackendChoice, settings: Builder, workers: usize) -> Self {
        let (sender, opened) = channel();
        let settings = settings.cores(usable_cores()).workers(workers);
        let hub = move |worker| Hub { worker, opened: sender.clone(), waiting: VecDeque::new() };
        Self { server: Running::serve(backend, settings, hub), opened }
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.server.handle
    }

    /// Where the connection is that has opened just now.
    pub(crate) fn next_open(&self) -> (usize, ConnId) {
        self.opened.recv_timeout(PATIENCE).unwrap()
    }

    /// A connection on either worker.
    pub(crate) fn open(&self, path: &str) -> (Client, ConnId) {
        let client = Client::open_at(self.server.addr, path);
        (client, self.next_open().1)
    }

    /// A connection on this worker; the kernel chooses, so others are made and closed again.
    pub(crate) fn open_on(&self, worker: usize, path: &str) -> (Client, ConnId) {
        for _ in 0..100 {
            let mut client = Client::open_at(self.server.addr, path);
            let (at, id) = self.next_open();
            if at == worker {
                return (client, id);
            }
            // What it was sent as history may come before the answer.
            client.send_close(1000);
            while client.poll_frame().is_some() {}
        }
        panic!("the kernel never chooses worker {worker}");
    }

    /// What becomes of a message.
    pub(crate) fn publish<'p>(&self, topic: &str, payload: impl Into<Payload<'p>>) -> Delivery {
        let receipt = self.handle().publish(topic, payload).unwrap();
        receipt.wait(PATIENCE).expect("all cores serve their subscribers")
    }
}

/// A small receive buffer, so that the peer is slow as soon as it does not read.
pub(crate) fn narrow(addr: SocketAddr, path: &str) -> Client {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(8 * 1024).unwrap();
    socket.connect(&addr.into()).unwrap();
    let mut client = Client::over(socket.into());
    client
        .send_raw(crate::client::REQUEST.replacen("GET / ", &format!("GET {path} "), 1).as_bytes());
    client.finish_handshake();
    client
}

/// Reads numbered messages of several publishers until there have been so many, and checks that
/// those of each come in order and none is missing.
fn read_in_order(stream: &mut TcpStream, publishers: usize, count: usize) {
    let mut next = vec![0u32; publishers];
    let (mut bytes, mut filled) = (vec![0; 256 * 1024], 0);
    let mut read = 0;
    while read < count {
        let received = stream.read(&mut bytes[filled..]).unwrap();
        assert!(received > 0, "the server ends the stream after {read} of {count}");
        filled += received;
        let mut start = 0;
        while filled - start >= 7 {
            let message = &bytes[start..start + 7];
            assert_eq!(message[..2], [0x82, 5], "a whole binary message of five bytes");
            let publisher = usize::from(message[2]);
            let number = u32::from_be_bytes(message[3..7].try_into().unwrap());
            assert_eq!(number, next[publisher], "publisher {publisher}");
            next[publisher] += 1;
            read += 1;
            start += 7;
        }
        bytes.copy_within(start..filled, 0);
        filled -= start;
    }
    assert_eq!(filled, 0, "nothing is sent twice");
}

fn numbered(publisher: usize, number: u32) -> [u8; 5] {
    let [a, b, c, d] = number.to_be_bytes();
    [u8::try_from(publisher).unwrap(), a, b, c, d]
}

#[test]
fn million_messages_of_connections_and_threads_reach_both_cores_in_order() {
    const PUBLISHERS: usize = 4;
    const OF_EACH: u32 = 250_000;
    on_every_backend(|backend| {
        // Whoever reads a little later than others is not to be closed.
        let settings = builder(backend).send_bytes_max(64 << 20).inbox_orders_max(4096);
        let site = Site::start(backend, settings);
        let mut subscribers = [0, 1].map(|worker| site.open_on(worker, "/all").0);
        let mut speakers = [0, 1].map(|worker| site.open_on(worker, "/-all").0);
        thread::scope(|scope| {
            for subscriber in &mut subscribers {
                let count = PUBLISHERS * OF_EACH as usize;
                scope.spawn(move || read_in_order(&mut subscriber.stream, PUBLISHERS, count));
            }
            for (publisher, speaker) in speakers.iter_mut().enumerate() {
                scope.spawn(move || {
                    for start in (0..OF_EACH).step_by(1000) {
                        let numbers = start..start + 1000;
                        let frames = numbers.map(|n| frame(true, BINARY, &numbered(publisher, n)));
                        speaker.send_raw(&frames.collect::<Vec<_>>().concat());
                    }
                });
            }
            for publisher in 2..PUBLISHERS {
                let handle = site.handle().clone();
                scope.spawn(move || {
                    for number in 0..OF_EACH {
                        let message = numbered(publisher, number);
                        while handle.publish("all", &message).is_err() {
                            thread::sleep(Duration::from_micros(200));
                        }
                    }
                });
            }
        });
        let stats = site.server.stop();
        assert_eq!(stats.dropped, 0);
    });
}

#[test]
fn publisher_is_told_of_a_full_inbox_and_what_was_taken_arrives() {
    on_every_backend(|backend| {
        let site = Site::start(backend, builder(backend).inbox_orders_max(3));
        let mut subscribers = [0, 1].map(|worker| site.open_on(worker, "/all").0);
        let mut sleeper = site.open_on(1, "/-all").0;
        sleeper.send_text("sleep 300");
        let (mut accepted, mut refused) = (Vec::new(), 0);
        let mut receipts = Vec::new();
        let start = Instant::now();
        for number in 0.. {
            if start.elapsed() > Duration::from_millis(600) && refused > 0 {
                break;
            }
            match site.handle().publish("all", &numbered(0, number)) {
                Ok(receipt) => {
                    receipts.push(receipt);
                    accepted.push(number);
                }
                Err(error) => {
                    assert_eq!(error, PublishError::Busy);
                    refused += 1;
                    thread::sleep(Duration::from_micros(100));
                }
            }
        }
        for receipt in receipts {
            let told = receipt.wait(PATIENCE).unwrap();
            assert_eq!(told, Delivery { queued: 2, refused: 0 });
        }
        for subscriber in &mut subscribers {
            for number in &accepted {
                let read = subscriber.read_frame();
                assert_eq!(read, Frame::new(BINARY, &numbered(0, *number)));
            }
            subscriber.send_text("echo end");
            assert_eq!(subscriber.read_text(), "end", "what was refused is sent to nobody");
        }
    });
}

#[test]
fn plain_compressed_and_secure_subscribers_get_the_same() {
    on_every_backend(|backend| {
        for takeover in [false, true] {
            let authority = Authority::new();
            let compression = Compression::new().context_takeover(takeover);
            let settings = secured(builder(backend), authority.tls());
            let site = Site::start(backend, settings.compression(Some(compression)));
            let plain = Client::open_at(site.server.addr, "/all");
            let deflating = compressed::open_at(site.server.addr, "/all", takeover);
            let secure_addr = secure_addr(&site.server);
            let mut secure = Client::connect_secure(secure_addr, &authority.client(), "localhost");
            secure.send_raw(crate::client::REQUEST.replacen("GET / ", "GET /all ", 1).as_bytes());
            secure.finish_handshake();
            let mut subscribers = [plain, deflating, secure];
            for _ in &subscribers {
                site.next_open();
            }
            let text = "the same again, and again, and again ".repeat(20);
            for round in 0..50u32 {
                let binary = crate::app::flood_payload(round as usize, 40 * round as usize);
                assert_eq!(site.publish("all", &text).queued, 3);
                assert_eq!(site.publish("all", &binary), Delivery { queued: 3, refused: 0 });
                for client in &mut subscribers {
                    assert_eq!(client.read_frame(), Frame::new(TEXT, text.as_bytes()));
                    assert_eq!(client.read_frame(), Frame::new(BINARY, &binary));
                }
            }
            assert!(subscribers[1].codec_uses >= 50, "the texts are compressed");
        }
    });
}

#[test]
fn new_subscriber_is_sent_the_history_of_its_topic_on_whatever_core_it_is() {
    on_every_backend(|backend| {
        let settings = builder(backend)
            .topic_policy(|topic| TopicPolicy::new().history(if topic == "last" { 3 } else { 0 }));
        let site = Site::start(backend, settings);
        for number in 0..10 {
            assert_eq!(site.publish("last", &numbered(0, number)).queued, 0, "nobody is there");
            assert_eq!(site.publish("none", &numbered(0, number)).queued, 0);
        }
        for worker in [0, 1] {
            let (mut late, _) = site.open_on(worker, "/last");
            let (mut without, _) = site.open_on(worker, "/none");
            for number in 7..10 {
                assert_eq!(late.read_frame(), Frame::new(BINARY, &numbered(0, number)));
            }
            without.send_text("echo nothing");
            assert_eq!(without.read_text(), "nothing");
            late.send_text("echo end");
            assert_eq!(late.read_text(), "end");
            late.close(1000);
        }
    });
}

#[test]
fn history_of_what_a_connection_publishes_is_sent_on_cores_that_had_no_subscriber() {
    on_every_backend(|backend| {
        for workers in [2, 3] {
            let settings = builder(backend).topic_policy(|_| TopicPolicy::new().history(3));
            let site = Site::start_with(backend, settings, workers);
            let (mut speaker, _) = site.open_on(0, "/last");
            for number in 0..10 {
                speaker.send_frame(true, BINARY, &numbered(0, number));
                assert_eq!(speaker.read_frame(), Frame::new(BINARY, &numbered(0, number)));
            }
            for worker in 0..workers {
                let (mut late, _) = site.open_on(worker, "/last");
                for number in 7..10 {
                    assert_eq!(late.read_frame(), Frame::new(BINARY, &numbered(0, number)));
                }
                late.send_text("echo end");
                assert_eq!(late.read_text(), "end");
            }
        }
    });
}

#[test]
fn handle_sends_to_and_closes_connections_of_any_core() {
    on_every_backend(|backend| {
        let site = Site::start(backend, builder(backend));
        for worker in [0, 1] {
            let (mut client, id) = site.open_on(worker, "/");
            assert!(site.handle().send(id, "text"));
            assert!(site.handle().send(id, &[1, 2, 3]));
            assert_eq!(client.read_text(), "text");
            assert_eq!(client.read_frame(), Frame::new(BINARY, &[1, 2, 3]));
            assert!(site.handle().close(id, CloseCode::new(4001), "that is all"));
            assert_eq!(client.read_close(), (4001, "that is all".to_owned()));
            client.send_close(4001);
            client.read_end();
            // Its name is nobody's now.
            assert!(site.handle().send(id, "too late"));
        }
        let (mut other, _) = site.open("/");
        other.send_text("echo alone");
        assert_eq!(other.read_text(), "alone");
    });
}

#[test]
fn receipt_tells_threads_and_tasks_how_many_were_queued() {
    on_every_backend(|backend| {
        let site = Site::start(backend, builder(backend));
        let nobody = site.handle().publish("all", "nobody").unwrap();
        assert_eq!(nobody.delivery(), Some(Delivery::default()), "no core has to be asked");
        let mut clients: Vec<Client> = (0..7).map(|n| site.open_on(n % 2, "/all").0).collect();
        for round in 0..100 {
            let text = round.to_string();
            let receipt = site.handle().publish("all", &text).unwrap();
            let told =
                if round % 2 == 0 { receipt.wait(PATIENCE).unwrap() } else { block_on(receipt) };
            assert_eq!(told, Delivery { queued: 7, refused: 0 });
            for client in &mut clients {
                assert_eq!(client.read_text(), text);
            }
        }
    });
}

#[test]
fn receipt_does_not_outwait_the_server() {
    on_every_backend(|backend| {
        let settings = || builder(backend).topic_policy(|_| TopicPolicy::new().history(1));
        let never_run = settings().build().unwrap();
        let handle = never_run.handle();
        let [receipt, task] = ["1", "2"].map(|text| handle.publish("all", text).unwrap());
        assert_eq!(receipt.delivery(), None, "it may still run");
        let (thread, task) = thread::scope(|scope| {
            let thread = scope.spawn(|| receipt.wait(10 * PATIENCE));
            let task = scope.spawn(|| block_on(task));
            thread::sleep(Duration::from_millis(50));
            drop(never_run);
            (thread.join().unwrap(), task.join().unwrap())
        });
        assert_eq!((thread, task), (Some(Delivery::default()), Delivery::default()));

        let site = Site::start(backend, settings());
        let (mut client, id) = site.open("/all");
        assert_eq!(site.publish("all", "1").queued, 1);
        assert_eq!(client.read_text(), "1");
        let handle = site.handle().clone();
        site.server.stop();
        let late = handle.publish("all", "2").unwrap();
        assert_eq!(late.delivery(), Some(Delivery::default()), "nobody is there any more");
        let _ = handle.send(id, "3");
        let asked_at = Instant::now();
        assert_eq!(handle.connections(1, PATIENCE), []);
        assert!(asked_at.elapsed() < PATIENCE, "and nobody is waited for");
    });
}

#[test]
fn ps03_message_for_a_name_that_is_none_is_refused_with_the_reason() {
    on_every_backend(|backend| {
        let site = Site::start(backend, builder(backend).topic_bytes_max(8));
        let (mut client, _) = site.open("/");
        for (name, fault) in [
            ("", InvalidTopic::Empty),
            ("123456789", InvalidTopic::TooLong),
            ("a b", InvalidTopic::Blank),
            ("a\0", InvalidTopic::Blank),
            ("a\r\n", InvalidTopic::Blank),
            ("*", InvalidTopic::Wildcard),
            ("a.>", InvalidTopic::Wildcard),
        ] {
            let refused = site.handle().publish(name, "x").map(drop);
            assert_eq!(refused, Err(PublishError::Invalid(fault)), "{name:?}");
        }
        client.send_text("echo alive");
        assert_eq!(client.read_text(), "alive");
    });
}

#[test]
fn ps08_subscribing_twice_and_leaving_what_one_has_not_joined_changes_nothing() {
    on_every_backend(|backend| {
        let site = Site::start(backend, builder(backend).subscriptions_max(2));
        let (mut client, _) = site.open("/a");
        for (said, answered) in [
            ("subscribe a", "Ok(false)".to_owned()),
            ("unsubscribe b", "false".to_owned()),
            ("subscribe b", "Ok(true)".to_owned()),
            ("subscribe c", format!("{:?}", Err::<bool, _>(SubscribeError::TooMany))),
            ("unsubscribe a", "true".to_owned()),
            ("unsubscribe a", "false".to_owned()),
            (
                "subscribe *",
                format!("{:?}", Err::<bool, _>(SubscribeError::Invalid(InvalidTopic::Wildcard))),
            ),
        ] {
            client.send_text(said);
            assert_eq!(client.read_text(), answered, "{said}");
        }
        assert_eq!(site.publish("a", "1").queued, 0);
        assert_eq!(site.publish("b", "2").queued, 1);
        assert_eq!(client.read_text(), "2", "once");
        client.send_text("leave");
        assert_eq!(client.read_close().0, 1000, "who is closing cannot subscribe");
        assert_eq!(site.publish("b", "3"), Delivery::default());
    });
}

#[test]
fn ps01_connection_that_goes_on_asking_for_more_subscriptions_is_closed_with_1008() {
    on_every_backend(|backend| {
        let site = Site::start(backend, builder(backend).subscriptions_max(5));
        let (mut client, _) = site.open("/");
        let ask = |n: usize| frame(true, TEXT, format!("subscribe t{n}").as_bytes());
        client.send_raw(&(0..106).flat_map(ask).collect::<Vec<u8>>());
        for n in 0..105 {
            let expected = if n < 5 { "Ok(true)" } else { "Err(TooMany)" };
            assert_eq!(client.read_text(), expected, "{n}");
        }
        client.expect_failure(1008);
        assert_eq!(site.server.stop().failures[&1008], 1);
    });
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    let waker = Waker::from(std::sync::Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        thread::park_timeout(PATIENCE);
    }
}
