//! From what happened to a verdict, by the rules of the Autobahn TestSuite and two of our own: the
//! content of every message counts, and so does a close code that is missing.
//!
//! Three things are judged apart: what came back, how the connection ended, and the close code. The
//! worst of them is the grade. Nothing here waits or sends.

use super::case::{Closing, Event, Grade, Outcome, Payload, Session, Side};
use super::deflate::NAME;
use super::play::{Seen, Transcript, Trips};

/// The judgement on one case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) grade: Grade,
    /// On what came back.
    pub(crate) behavior: Grade,
    /// On how the connection ended.
    pub(crate) ending: Ending,
    /// On the code of the server's Close frame, where one is wanted.
    pub(crate) code: Grade,
    /// The code that the server's Close frame had.
    pub(crate) close_code: Option<u16>,
    /// What was seen, in words.
    pub(crate) seen: String,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Ok,
    Informational,
    /// There never was a WebSocket connection.
    NotOpened,
    /// Closed by us where the server had to, or the other way round.
    WrongSide,
    /// Without both Close frames, or not dropped by the server in time.
    Unclean,
    WrongCode,
    /// The server never dropped the connection.
    DroppedByUs,
}

impl Ending {
    /// The name that the Autobahn TestSuite gives it, where it has one.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Informational => "INFORMATIONAL",
            Self::NotOpened | Self::WrongSide => "FAILED",
            Self::Unclean => "UNCLEAN",
            Self::WrongCode => "WRONG CODE",
            Self::DroppedByUs => "FAILED BY CLIENT",
        }
    }

    fn grade(self) -> Grade {
        match self {
            Self::Ok => Grade::Ok,
            Self::Informational => Grade::Informational,
            Self::NotOpened
            | Self::WrongSide
            | Self::Unclean
            | Self::WrongCode
            | Self::DroppedByUs => Grade::Failed,
        }
    }
}

impl Verdict {
    /// There was no connection to play the case on.
    pub(crate) fn not_opened(why: &str) -> Self {
        Self {
            grade: Grade::Failed,
            behavior: Grade::Failed,
            ending: Ending::NotOpened,
            code: Grade::Ok,
            close_code: None,
            seen: format!("no WebSocket connection: {why}"),
        }
    }

    /// Nothing could be played without the extension that the server declined.
    pub(crate) fn unimplemented() -> Self {
        Self {
            grade: Grade::Unimplemented,
            behavior: Grade::Unimplemented,
            ending: Ending::Ok,
            code: Grade::Ok,
            close_code: None,
            seen: format!("the server did not agree on {NAME}"),
        }
    }
}

/// Judges a session by its outcomes.
pub(crate) fn judge(session: &Session, transcript: &Transcript) -> Verdict {
    let matching = session.outcomes.iter().filter(|outcome| matches(outcome, &transcript.seen));
    // Outcomes may differ in how they end alone.
    let fitting = matching.clone().find(|outcome| ends_alike(&outcome.closing, transcript));
    let matching = fitting.or_else(|| matching.clone().next());
    let outcome = matching.unwrap_or(&session.outcomes[0]);
    let mut behavior = matching.map_or(Grade::Failed, |outcome| outcome.grade);
    let closing = &outcome.closing;
    let ending = judge_ending(closing, transcript);
    let missed = closing.must_notice && closing.by != transcript.closed_by;
    let misread = closing.code_is_the_point && ending == Ending::WrongCode;
    if missed || misread || transcript.violation.is_some() {
        behavior = Grade::Failed;
    }
    let seen = describe(&outcome.events, transcript);
    if session.informational {
        let (grade, ending) = (Grade::Informational, Ending::Informational);
        let close_code = transcript.close_frame.flatten();
        return Verdict { grade, behavior: grade, ending, code: Grade::Ok, close_code, seen };
    }
    compose(behavior, ending, closing, transcript, seen)
}

/// Judges messages that were sent one by one, of which there were to be `count`.
pub(crate) fn judge_trips(trips: &Trips, count: usize) -> Verdict {
    let Trips { echoes, transcript, .. } = trips;
    let closing = Closing::ours();
    let whole = *echoes == count && transcript.seen.is_empty() && transcript.violation.is_none();
    let behavior = if whole { Grade::Ok } else { Grade::Failed };
    let ending = judge_ending(&closing, transcript);
    let next = trips.missing.as_slice();
    let seen = format!(
        "{echoes} of {count} echoes{}; then {}",
        compression_words(trips),
        describe(next, transcript)
    );
    compose(behavior, ending, &closing, transcript, seen)
}

/// What compression did. A server may send any message as it is (RFC 7692 §5), so that is told.
fn compression_words(trips: &Trips) -> String {
    let Trips { echoes, compressed_count, message_bytes, sent_bytes, .. } = trips;
    if *message_bytes == 0 {
        return String::new();
    }
    let percent = sent_bytes * 100 / message_bytes;
    let which = match compressed_count {
        0 => "none compressed".to_owned(),
        count if count == echoes => "all compressed".to_owned(),
        count => format!("{count} of them compressed"),
    };
    format!(", {which} (sent {message_bytes} bytes as {percent} %)")
}

fn compose(
    behavior: Grade,
    ending: Ending,
    closing: &Closing,
    transcript: &Transcript,
    seen: String,
) -> Verdict {
    let close_code = transcript.close_frame.flatten();
    // RFC 6455 §7.1.7: an endpoint that fails the connection SHOULD say why by a Close frame.
    let is_missing = closing.code_wanted && close_code.is_none();
    let code = if is_missing { Grade::NonStrict } else { Grade::Ok };
    let grade = behavior.max(ending.grade()).max(code);
    Verdict { grade, behavior, ending, code, close_code, seen }
}

fn matches(outcome: &Outcome, seen: &[Seen]) -> bool {
    seen.len() == outcome.events.len()
        && seen.iter().zip(&outcome.events).all(|(seen, event)| seen.is(event))
}

/// Whether the right side closed, with a code that may be.
fn ends_alike(closing: &Closing, transcript: &Transcript) -> bool {
    let code = transcript.close_frame.flatten();
    transcript.closed_by == closing.by && code.is_none_or(|code| closing.codes.contains(&code))
}

fn judge_ending(closing: &Closing, transcript: &Transcript) -> Ending {
    let code = transcript.close_frame.flatten();
    if transcript.closed_by != closing.by {
        Ending::WrongSide
    } else if closing.clean && !transcript.clean {
        Ending::Unclean
    } else if code.is_some_and(|code| !closing.codes.contains(&code)) {
        Ending::WrongCode
    } else if transcript.dropped_by_us {
        Ending::DroppedByUs
    } else {
        Ending::Ok
    }
}

/// What a server should have done, in words.
pub(crate) fn describe_expected(session: &Session) -> String {
    let mut text = String::new();
    for (index, outcome) in session.outcomes.iter().enumerate() {
        if index > 0 {
            text.push_str(match outcome.grade {
                Grade::Ok => ", or: ",
                Grade::Informational => ", or, told and not graded: ",
                Grade::Unimplemented | Grade::NonStrict | Grade::Failed => ", or as non-strict: ",
            });
        }
        text.push_str(&describe_events(&outcome.events));
        text.push_str("; then ");
        text.push_str(&describe_closing(&outcome.closing));
    }
    if session.informational {
        text.push_str(" (told, not graded)");
    }
    text
}

fn describe_closing(closing: &Closing) -> String {
    let codes: Vec<String> = closing.codes.iter().map(u16::to_string).collect();
    let codes = codes.join(" or ");
    match (closing.by, closing.clean) {
        (Side::Us, true) => {
            format!("our Close frame is answered ({codes} or no code), connection ended")
        }
        (Side::Us, false) => format!("our Close frame is answered with {codes}, connection ended"),
        (Side::Server, _) => format!("the server closes with {codes}"),
    }
}

fn describe_events(events: &[Event]) -> String {
    if events.is_empty() {
        return "nothing comes back".to_owned();
    }
    let words = events.iter().map(|event| match event {
        Event::Message { binary, payload } => {
            format!("{} comes back", message_words(*binary, payload.len(), || payload.to_vec()))
        }
        Event::Pong(payload) => pong_words(&payload.to_vec()),
        Event::Silence(mark) => format!("still open after pause {mark}"),
    });
    words.collect::<Vec<_>>().join(", ")
}

/// What was seen, in words; a message that is nearly right is told by where it differs.
fn describe(expected: &[Event], transcript: &Transcript) -> String {
    // More than this helps nobody.
    const EVENTS_MAX: usize = 4;
    let mut words: Vec<String> = Vec::new();
    for (index, seen) in transcript.seen.iter().take(EVENTS_MAX).enumerate() {
        words.push(describe_seen(seen, expected.get(index)));
    }
    if transcript.seen.len() > EVENTS_MAX {
        words.push(format!("{} more", transcript.seen.len() - EVENTS_MAX));
    }
    if words.is_empty() {
        words.push("nothing came back".to_owned());
    }
    format!("{}; {}", words.join(", "), describe_end(transcript))
}

fn describe_seen(seen: &Seen, expected: Option<&Event>) -> String {
    match (seen, expected) {
        (
            Seen::Message { binary, payload },
            Some(Event::Message { binary: wanted, payload: whole }),
        ) if binary == wanted => {
            let words = message_words(*binary, payload.len(), || payload.clone());
            match whole.difference(payload) {
                None => words,
                Some(at) => format!("{words}, {}", difference_words(whole, payload, at)),
            }
        }
        (Seen::Message { binary, payload }, _) => {
            message_words(*binary, payload.len(), || payload.clone())
        }
        (Seen::Pong(payload), _) => pong_words(payload),
        (Seen::Silence(mark), _) => format!("still open after pause {mark}"),
    }
}

fn difference_words(expected: &Payload, seen: &[u8], at: usize) -> String {
    match (expected.at(at), seen.get(at)) {
        (Some(wanted), Some(byte)) => {
            format!("which differs at byte {at} (0x{byte:02x} instead of 0x{wanted:02x})")
        }
        _ => format!("but {} bytes were sent", expected.len()),
    }
}

fn describe_end(transcript: &Transcript) -> String {
    let mut text = match (transcript.closed_by, transcript.close_frame) {
        (Side::Server, None) if transcript.reset => {
            "connection reset without a Close frame".to_owned()
        }
        (Side::Server, None) => "connection ended without a Close frame".to_owned(),
        (Side::Server, Some(None)) => "the server closed without a code".to_owned(),
        (Side::Server, Some(Some(1009))) => {
            "the server closed with 1009: raise its limit of message size".to_owned()
        }
        (Side::Server, Some(Some(code))) => format!("the server closed with {code}"),
        (Side::Us, None) => "our Close frame was not answered".to_owned(),
        (Side::Us, Some(None)) => "our Close frame was answered without a code".to_owned(),
        (Side::Us, Some(Some(code))) => format!("our Close frame was answered with {code}"),
    };
    if let Some(violation) = transcript.violation {
        text.push_str(&format!("; the server sent {violation}"));
    } else if transcript.dropped_by_us {
        text.push_str("; the server did not drop the connection");
    }
    text
}

fn message_words(binary: bool, bytes: usize, payload: impl Fn() -> Vec<u8>) -> String {
    const SHOWN_BYTES_MAX: usize = 24;
    let kind = if binary { "binary" } else { "text" };
    if binary || bytes == 0 || bytes > SHOWN_BYTES_MAX {
        return format!("{kind} of {bytes} bytes");
    }
    format!("text `{}`", String::from_utf8_lossy(&payload()).escape_debug())
}

fn pong_words(payload: &[u8]) -> String {
    match payload.len() {
        0 => "a pong".to_owned(),
        bytes => format!("a pong of {bytes} bytes"),
    }
}

#[cfg(test)]
mod tests;
