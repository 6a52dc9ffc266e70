//! Tests of the player against servers of a few lines, which also write down what was sent to them.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;

use super::*;
use crate::conform::answer;
use crate::conform::case::{close_1000, open_ended, plain, text};
use crate::conform::frame::{CONTINUATION, TEXT};

const TIMING: Timing = Timing {
    reaction: Duration::from_millis(300),
    stall: Duration::from_secs(5),
    transfer: Duration::from_secs(20),
};
const CLOSE_1000: &[u8] = &[0x88, 2, 0x03, 0xe8];

/// Plays a session against a server that sends `answer`, then ends its side if it is to; returns
/// also everything that the server received.
fn play_against(session: &Session, answer: &[u8], ends: bool) -> (Transcript, Vec<u8>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let mut server = listener.accept().unwrap().0;
    server.write_all(answer).unwrap();
    if ends {
        server.shutdown(Shutdown::Write).unwrap();
    }
    let received = thread::spawn(move || {
        let mut received = Vec::new();
        let _ = server.read_to_end(&mut received);
        received
    });
    let peer = Peer::agreed(stream.into(), answer::Head::default(), None).unwrap();
    let transcript = play(session, peer, TIMING, 1);
    (transcript, received.join().unwrap())
}

/// First byte and payload of each frame that was sent.
fn frames(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while let [first, second, rest @ ..] = bytes {
        assert!(second & 0x80 != 0 && second & 0x7f <= 125, "masked and short");
        let len = usize::from(second & 0x7f);
        let mut payload = rest[4..4 + len].to_vec();
        apply_mask(&mut payload, rest[..4].try_into().unwrap(), 0);
        frames.push((*first, payload));
        bytes = &rest[4 + len..];
    }
    frames
}

fn echo() -> Session {
    Session::echo(vec![plain(TEXT, b"a")], vec![text(b"a")])
}

#[test]
fn echo_is_followed_by_our_close_and_the_end_of_the_server() {
    let answer = [&[0x81, 1, b'a'], CLOSE_1000].concat();
    let (transcript, received) = play_against(&echo(), &answer, true);
    assert_eq!(transcript.seen, [Seen::Message { binary: false, payload: b"a".to_vec() }]);
    assert_eq!((transcript.closed_by, transcript.clean), (Side::Us, true));
    assert_eq!(transcript.close_frame, Some(Some(1000)));
    assert!(!transcript.dropped_by_us);
    assert_eq!(frames(&received), [(0x81, b"a".to_vec()), (0x88, vec![3, 0xe8])]);
}

#[test]
fn close_frame_of_the_server_is_answered_with_1000() {
    let session = Session::protocol_error(vec![plain(3, b"")], vec![]);
    let (transcript, received) = play_against(&session, &[0x88, 2, 0x03, 0xea], true);
    assert_eq!((transcript.closed_by, transcript.close_frame), (Side::Server, Some(Some(1002))));
    assert_eq!(frames(&received), [(0x83, vec![]), (0x88, vec![3, 0xe8])]);
}

#[test]
fn silent_server_is_closed_by_us_and_then_dropped() {
    let start = Instant::now();
    let (transcript, received) = play_against(&echo(), b"", false);
    assert!(start.elapsed() >= TIMING.reaction * 2 && start.elapsed() < TIMING.stall);
    assert_eq!((transcript.closed_by, transcript.close_frame), (Side::Us, None));
    assert!(transcript.dropped_by_us && !transcript.clean);
    let close = (0x88, [&[3, 0xe9][..], b"Going Away"].concat());
    assert_eq!(frames(&received), [(0x81, b"a".to_vec()), close]);
}

#[test]
fn server_that_answers_our_close_but_keeps_the_connection_is_not_clean() {
    let session = Session::close(vec![close_1000()], &[1000], true);
    let (transcript, _) = play_against(&session, CLOSE_1000, false);
    assert_eq!((transcript.closed_by, transcript.clean), (Side::Us, false));
    assert!(transcript.dropped_by_us);
}

#[test]
fn connection_that_just_ends_was_closed_by_the_server() {
    let (transcript, _) = play_against(&echo(), b"", true);
    assert_eq!((transcript.closed_by, transcript.close_frame), (Side::Server, None));
    assert!(!transcript.clean && !transcript.dropped_by_us);
}

#[test]
fn pings_of_the_server_are_answered_and_do_not_count() {
    let answer = [&[0x89, 1, b'p', 0x81, 1, b'a'], CLOSE_1000].concat();
    let (transcript, received) = play_against(&echo(), &answer, true);
    assert_eq!(transcript.seen.len(), 1);
    assert_eq!(frames(&received)[1], (0x8a, b"p".to_vec()));
}

#[test]
fn what_the_server_must_not_send_ends_the_session() {
    let (transcript, received) = play_against(&echo(), &[0x81, 0x80, 0, 0, 0, 0], false);
    assert_eq!(transcript.violation, Some(Violation::MaskedFrame));
    assert_eq!(frames(&received)[1], (0x88, vec![3, 0xea]));
}

#[test]
fn fragments_that_are_all_full_are_followed_by_an_empty_one() {
    let sent = |bytes| {
        let payload = Payload::new(b"abcd");
        let step = Step::Fragments { binary: false, payload, bytes };
        let session = Session::echo(vec![step, close_1000()], vec![]);
        frames(&play_against(&session, CLOSE_1000, true).1)
    };
    let close = (0x88, vec![3, 0xe8]);
    assert_eq!(sent(4), [(0x81, b"abcd".to_vec()), close.clone()]);
    let of_two = [(0x01, b"ab".to_vec()), (0, b"cd".to_vec()), (0x80, vec![]), close.clone()];
    assert_eq!(sent(2), of_two);
    assert_eq!(sent(3), [(0x01, b"abc".to_vec()), (0x80, b"d".to_vec()), close]);
}

#[test]
fn every_pace_puts_the_same_frames_on_the_wire() {
    for pace in [Pace::Together, Pace::Apart, Pace::Chopped(1), Pace::Chopped(5)] {
        let steps = vec![open_ended(TEXT, b"Hello"), plain(CONTINUATION, b", world"), close_1000()];
        let session = Session::echo(crate::conform::case::paced(pace, steps), vec![]);
        let received = play_against(&session, CLOSE_1000, true).1;
        let expected =
            [(0x01, b"Hello".to_vec()), (0x80, b", world".to_vec()), (0x88, vec![3, 0xe8])];
        assert_eq!(frames(&received), expected, "{pace:?}");
    }
}

#[test]
fn silence_counts_only_while_the_connection_is_open() {
    let steps = vec![plain(TEXT, b"a"), Step::Silence('A'), plain(TEXT, b"b")];
    let session = Session::protocol_error(steps, vec![]);
    let (transcript, received) = play_against(&session, CLOSE_1000, true);
    assert!(transcript.seen.is_empty());
    assert_eq!(frames(&received).len(), 2, "the second text is not sent any more");
    let (transcript, received) = play_against(&session, b"", false);
    assert_eq!(transcript.seen, [Seen::Silence('A')]);
    assert_eq!(frames(&received)[1], (0x81, b"b".to_vec()));
}

#[test]
fn round_trips_end_at_the_first_echo_that_differs() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let mut server = listener.accept().unwrap().0;
    server.write_all(&[0x81, 1, b'*', 0x81, 1, b'*', 0x81, 1, b'+']).unwrap();
    let peer = Peer::agreed(stream.into(), answer::Head::default(), None).unwrap();
    let trips = play_round_trips(&text(b"*"), 5, peer, TIMING);
    assert_eq!((trips.echoes, trips.missing), (2, Some(text(b"*"))));
    assert_eq!(trips.transcript.seen, [Seen::Message { binary: false, payload: b"+".to_vec() }]);
}
