//! Tests of each rule of the verdict, on transcripts made by hand.

use super::*;
use crate::conform::case::{Payload, plain, pong, text};
use crate::conform::frame::{TEXT, Violation};

fn echo() -> Session {
    Session::echo(vec![plain(TEXT, b"hello")], vec![text(b"hello")])
}

fn protocol_error() -> Session {
    Session::protocol_error(vec![plain(3, b"")], vec![])
}

fn answered_1002() -> Session {
    Session::close(vec![], &[1002], false)
}

fn message(payload: &[u8]) -> Seen {
    Seen::Message { binary: false, payload: payload.to_vec() }
}

/// Closed by this side, answered with this code, as it should be.
fn closed(by: Side, code: Option<u16>, seen: Vec<Seen>) -> Transcript {
    Transcript {
        seen,
        violation: None,
        closed_by: by,
        close_frame: Some(code),
        clean: true,
        dropped_by_us: false,
        reset: false,
    }
}

fn grades(session: &Session, transcript: &Transcript) -> (Grade, Grade, Ending, Grade) {
    let verdict = judge(session, transcript);
    (verdict.grade, verdict.behavior, verdict.ending, verdict.code)
}

const ALL_OK: (Grade, Grade, Ending, Grade) = (Grade::Ok, Grade::Ok, Ending::Ok, Grade::Ok);

#[test]
fn echo_and_answered_close_are_ok_with_and_without_a_code() {
    for code in [Some(1000), None] {
        assert_eq!(grades(&echo(), &closed(Side::Us, code, vec![message(b"hello")])), ALL_OK);
    }
}

#[test]
fn wrong_missing_and_additional_events_fail() {
    let binary = Seen::Message { binary: true, payload: b"hello".to_vec() };
    let wrong = [
        vec![],
        vec![message(b"hellO")],
        vec![message(b"hell")],
        vec![message(b"hello!")],
        vec![binary],
        vec![message(b"hello"), message(b"hello")],
        vec![Seen::Pong(b"hello".to_vec())],
    ];
    for seen in wrong {
        let verdict = judge(&echo(), &closed(Side::Us, Some(1000), seen.clone()));
        let parts = (verdict.grade, verdict.behavior, verdict.ending);
        assert_eq!(parts, (Grade::Failed, Grade::Failed, Ending::Ok), "{seen:?}");
    }
}

#[test]
fn server_that_closes_where_we_should_or_the_other_way_round_fails() {
    let early = closed(Side::Server, Some(1000), vec![message(b"hello")]);
    assert_eq!(judge(&echo(), &early).ending, Ending::WrongSide);
    let late = closed(Side::Us, Some(1000), vec![]);
    let verdict = judge(&protocol_error(), &late);
    assert_eq!((verdict.grade, verdict.ending), (Grade::Failed, Ending::WrongSide));
}

#[test]
fn close_that_must_be_clean_needs_both_frames_and_an_end_by_the_server() {
    let unclean = Transcript {
        clean: false,
        close_frame: None,
        ..closed(Side::Us, None, vec![message(b"hello")])
    };
    let verdict = judge(&echo(), &unclean);
    assert_eq!((verdict.grade, verdict.ending), (Grade::Failed, Ending::Unclean));
    let kept =
        Transcript { dropped_by_us: true, ..closed(Side::Us, None, vec![message(b"hello")]) };
    assert_eq!(judge(&echo(), &kept).ending, Ending::DroppedByUs);
}

#[test]
fn connection_that_fails_needs_no_clean_end() {
    let unclean = Transcript { clean: false, ..closed(Side::Server, Some(1002), vec![]) };
    assert_eq!(grades(&protocol_error(), &unclean), ALL_OK);
}

#[test]
fn other_close_code_fails_and_a_missing_one_is_not_strict() {
    let verdict = judge(&protocol_error(), &closed(Side::Server, Some(1000), vec![]));
    assert_eq!((verdict.grade, verdict.ending), (Grade::Failed, Ending::WrongCode));
    assert_eq!((verdict.behavior, verdict.close_code), (Grade::Ok, Some(1000)));
    let mut dropped = closed(Side::Server, None, vec![]);
    let not_strict = (Grade::NonStrict, Grade::Ok, Ending::Ok, Grade::NonStrict);
    assert_eq!(grades(&protocol_error(), &dropped), not_strict);
    dropped.close_frame = None;
    assert_eq!(grades(&protocol_error(), &dropped), not_strict);
}

#[test]
fn wrong_code_in_answer_to_a_close_frame_counts_as_behavior() {
    let verdict = judge(&answered_1002(), &closed(Side::Us, Some(1000), vec![]));
    assert_eq!((verdict.behavior, verdict.ending), (Grade::Failed, Ending::WrongCode));
    assert_eq!(grades(&answered_1002(), &closed(Side::Us, Some(1002), vec![])), ALL_OK);
    let without = judge(&answered_1002(), &closed(Side::Us, None, vec![]));
    assert_eq!((without.grade, without.code), (Grade::NonStrict, Grade::NonStrict));
}

#[test]
fn fault_that_must_be_noticed_and_was_not_fails_whatever_came_back() {
    let mut session = protocol_error();
    session.outcomes[0].closing.must_notice = true;
    let verdict = judge(&session, &closed(Side::Us, None, vec![]));
    assert_eq!((verdict.behavior, verdict.ending), (Grade::Failed, Ending::WrongSide));
}

#[test]
fn second_best_outcome_is_not_strict() {
    let session = Session::protocol_error(vec![], vec![text(b"a")]).or_non_strict(vec![]);
    assert_eq!(grades(&session, &closed(Side::Server, Some(1002), vec![message(b"a")])), ALL_OK);
    let verdict = judge(&session, &closed(Side::Server, Some(1002), vec![]));
    assert_eq!((verdict.grade, verdict.ending), (Grade::NonStrict, Ending::Ok));
}

#[test]
fn outcomes_may_end_differently() {
    let mut session = protocol_error();
    session.outcomes.push(Outcome {
        grade: Grade::NonStrict,
        events: vec![text(b"a")],
        closing: Closing::ours(),
    });
    let lenient = judge(&session, &closed(Side::Us, Some(1000), vec![message(b"a")]));
    assert_eq!((lenient.grade, lenient.ending), (Grade::NonStrict, Ending::Ok));
}

#[test]
fn what_the_server_must_not_send_fails_any_session() {
    let mut transcript = closed(Side::Us, Some(1000), vec![message(b"hello")]);
    transcript.violation = Some(Violation::MaskedFrame);
    let verdict = judge(&echo(), &transcript);
    assert_eq!(verdict.grade, Grade::Failed);
    assert!(verdict.seen.ends_with("the server sent a masked frame"), "{}", verdict.seen);
}

#[test]
fn informational_case_never_fails() {
    let session = Session { informational: true, ..answered_1002() };
    let verdict = judge(&session, &closed(Side::Server, Some(1000), vec![message(b"x")]));
    assert_eq!((verdict.grade, verdict.ending), (Grade::Informational, Ending::Informational));
    assert!(describe_expected(&session).ends_with("(told, not graded)"));
}

#[test]
fn silence_and_pongs_count_in_their_order() {
    let mut session = protocol_error();
    session.outcomes[0].events = vec![Event::Silence('A'), pong(b"p")];
    let seen = vec![Seen::Silence('A'), Seen::Pong(b"p".to_vec())];
    assert_eq!(grades(&session, &closed(Side::Server, Some(1002), seen.clone())), ALL_OK);
    let turned = seen.into_iter().rev().collect();
    let verdict = judge(&session, &closed(Side::Server, Some(1002), turned));
    assert_eq!(verdict.behavior, Grade::Failed);
}

#[test]
fn byte_that_differs_in_a_large_message_is_found_and_named() {
    let payload = Payload::repeated(b"abc", 3 << 20);
    let whole = Event::Message { binary: true, payload: payload.clone() };
    let session = Session::echo(vec![], vec![whole]);
    let mut bytes = payload.to_vec();
    bytes[2_000_001] ^= 1;
    let seen = vec![Seen::Message { binary: true, payload: bytes }];
    let verdict = judge(&session, &closed(Side::Us, Some(1000), seen));
    assert_eq!(verdict.behavior, Grade::Failed);
    let words = "differs at byte 2000001 (0x60 instead of 0x61)";
    assert!(verdict.seen.contains(words), "{}", verdict.seen);
}

fn trips(echoes: usize, seen: Vec<Seen>) -> Trips {
    Trips {
        echoes,
        missing: (echoes < 1000).then(|| text(b"*")),
        compressed_count: 0,
        message_bytes: 0,
        sent_bytes: 0,
        transcript: closed(Side::Us, Some(1000), seen),
    }
}

#[test]
fn round_trips_need_every_echo() {
    let judged = |echoes, seen| judge_trips(&trips(echoes, seen), 1000).grade;
    assert_eq!(judged(1000, vec![]), Grade::Ok);
    assert_eq!(judged(999, vec![]), Grade::Failed);
    assert_eq!(judged(999, vec![message(b"+")]), Grade::Failed);
    assert_eq!(judged(1000, vec![message(b"*")]), Grade::Failed);
}

#[test]
fn compressed_trips_say_how_many_echoes_came_compressed() {
    let said = |compressed_count| {
        let sent = Trips { message_bytes: 1000, sent_bytes: 123, ..trips(1000, vec![]) };
        let verdict = judge_trips(&Trips { compressed_count, ..sent }, 1000);
        assert_eq!(verdict.grade, Grade::Ok);
        verdict.seen
    };
    assert!(said(0).starts_with("1000 of 1000 echoes, none compressed (sent 1000 bytes as 12 %);"));
    assert!(
        said(7).contains(", 7 of them compressed (") && said(1000).contains(", all compressed (")
    );
}

#[test]
fn outcome_that_ends_alike_is_preferred_among_those_with_the_same_events() {
    let session = Session::failure(vec![], vec![], &[1007, 1002]);
    let ended = |code| {
        let verdict = judge(&session, &closed(Side::Server, code, vec![]));
        (verdict.grade, verdict.ending)
    };
    assert_eq!(ended(Some(1007)), (Grade::Ok, Ending::Ok));
    assert_eq!(ended(Some(1002)), (Grade::NonStrict, Ending::Ok));
    assert_eq!(ended(None), (Grade::NonStrict, Ending::Ok), "a code is wanted");
    assert_eq!(ended(Some(1000)), (Grade::Failed, Ending::WrongCode));
    let echoed = judge(&session, &closed(Side::Us, Some(1000), vec![message(b"x")]));
    assert_eq!(echoed.grade, Grade::Failed);
}

#[test]
fn unimplemented_is_worse_than_ok_and_no_failure() {
    let verdict = Verdict::unimplemented();
    assert_eq!((verdict.grade, verdict.ending), (Grade::Unimplemented, Ending::Ok));
    assert!(verdict.seen.contains("permessage-deflate"));
}

#[test]
fn no_connection_is_a_failure_with_its_reason() {
    let verdict = Verdict::not_opened("status 403 instead of 101");
    assert_eq!((verdict.grade, verdict.ending), (Grade::Failed, Ending::NotOpened));
    assert!(verdict.seen.contains("403"));
}
