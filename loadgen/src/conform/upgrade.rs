//! Cases about the opening handshake: a request with one thing changed, and the rule for its answer.
//!
//! What RFC 6455, 9110, 9112 and 7692 demand is graded; what they leave open is told. Where they say
//! "must refuse", any refusal passes that the text allows, and an answer it only prefers is what
//! makes the difference between OK and NON-STRICT.

use super::answer::{Answer, Head};
use super::case::{Grade, Pace, Payload, Session, Step, plain, text};
use super::corpus::Kind;
use super::deflate::{Deflater, EXTENSIONS, NAME, Params};
use super::frame;
use super::peer::{Peer, Timing, ask, connect};
use super::play;
use super::request::{Request, Target};
use super::verdict::{self, Ending, Verdict};

/// An opening handshake to try.
#[derive(Clone, Debug)]
pub(crate) struct Upgrade {
    /// What is changed in a plain request.
    pub(crate) change: fn(Request) -> Request,
    /// The request leaves in pieces of this many bytes.
    pub(crate) chop: Option<usize>,
    pub(crate) rule: Rule,
}

/// How a request has to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// It is valid: 101, and then an echo. Subprotocols and extensions: only of these.
    Accept { protocols: &'static [&'static str], extensions: &'static [&'static str] },
    /// It is valid: 101, and permessage-deflate on one of these offers, whatever else was offered. Then
    /// compressed messages must come back.
    Deflate { offers: &'static [&'static str], instead: Instead },
    /// What is offered is not valid: an error status, or 101 without any extension.
    RefuseOrDecline,
    /// As `Accept`, but the RFC only says SHOULD.
    ShouldAccept,
    /// It is not valid: an error status, of these if there are any.
    Refuse { statuses: &'static [u16] },
    /// A version that nobody speaks: an error that names version 13, preferably 426.
    RefuseVersion,
    /// It is a request, but not one to upgrade: anything but 101.
    NotAnUpgrade,
    /// The RFCs leave it open: told, but a 101 must be a valid one.
    Open,
}

/// What a server may do instead of accepting an offer of permessage-deflate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Instead {
    /// Decline it, which then is unimplemented.
    Decline,
    /// Decline it, as the RFC says it may.
    DeclineFreely,
    /// The same as `Decline`; what stands beside the offer is not valid, and refusing the request for
    /// it is only not strict.
    RefuseItsNeighbour,
}

/// A rule for requests that must be accepted and offer nothing.
pub(crate) const ACCEPT: Rule = Rule::Accept { protocols: &[], extensions: &[] };
/// A rule for requests that must be refused, in whatever words.
pub(crate) const REFUSE: Rule = Rule::Refuse { statuses: &[] };

impl Rule {
    /// What the server has to do, in words.
    pub(crate) fn describe(self) -> String {
        let text = match self {
            Self::Accept { protocols: &[], extensions: &[] } => "101, then an echo",
            Self::Accept { .. } => "101, at most choosing what was offered, then an echo",
            Self::Deflate { offers, instead } => {
                let rest = match instead {
                    Instead::Decline | Instead::RefuseItsNeighbour => "",
                    Instead::DeclineFreely => ", or no extension",
                };
                return format!("101 that accepts `{}`{rest}, then echoes", offers.join("` or `"));
            }
            Self::RefuseOrDecline => "refused with an error status, or 101 without extensions",
            Self::ShouldAccept => "101, then an echo; non-strict: refused",
            Self::Refuse { statuses: &[] } => "refused with an error status",
            Self::Refuse { statuses } => {
                let statuses: Vec<String> = statuses.iter().map(u16::to_string).collect();
                return format!("refused with {}", statuses.join(" or "));
            }
            Self::RefuseVersion => "refused with 426 and Sec-WebSocket-Version: 13",
            Self::NotAnUpgrade => "any answer but 101",
            Self::Open => "open in the RFCs (told, not graded)",
        };
        text.to_owned()
    }
}

impl Upgrade {
    /// Tries the handshake, and judges the answer.
    pub(crate) fn run(&self, target: &Target, timing: Timing, seed: u32) -> Verdict {
        let stream = match connect(target, timing) {
            Ok(stream) => stream,
            Err(error) => return Verdict::not_opened(&error.to_string()),
        };
        let request = (self.change)(Request::plain(target, seed));
        let chop = self.chop.unwrap_or(usize::MAX);
        let answer = ask(&stream, &request.bytes(), chop, timing.reaction);
        let described = answer.describe();
        let Answer::Head(head) = answer else {
            return verdict(grade_of_no_answer(self.rule, &answer), described);
        };
        if head.status != 101 {
            let (grade, remark) = grade_of_refusal(self.rule, &head);
            return verdict(grade, format!("{described}{remark}"));
        }
        let (protocols, extensions) = match self.rule {
            Rule::Accept { protocols, extensions } => (protocols, extensions),
            Rule::Deflate { .. } => (&[][..], &[NAME][..]),
            Rule::ShouldAccept | Rule::RefuseOrDecline | Rule::Open => (&[][..], &[][..]),
            Rule::Refuse { .. } | Rule::RefuseVersion | Rule::NotAnUpgrade => {
                return verdict(Grade::Failed, described);
            }
        };
        let fault = head.fault_of_accept(&request.key);
        if let Some(fault) = fault.or_else(|| head.fault_of_choice(protocols, extensions)) {
            return verdict(Grade::Failed, format!("{described}; {fault}"));
        }
        if self.rule == Rule::Open {
            return verdict(Grade::Informational, described);
        }
        let (offers, instead) = match self.rule {
            Rule::Deflate { offers, instead } => (offers, instead),
            // What was agreed on now stands between us and the echo.
            _ if head.list(EXTENSIONS).next().is_some() => return verdict(Grade::Ok, described),
            _ => (&[][..], Instead::DeclineFreely),
        };
        let agreed = match Params::agreed(&head, offers) {
            Ok(agreed) => agreed,
            Err(fault) => return verdict(Grade::Failed, fault),
        };
        match Peer::agreed(stream, head, agreed) {
            Ok(peer) if agreed.is_none() && instead != Instead::DeclineFreely => {
                drop(peer);
                Verdict::unimplemented()
            }
            Ok(peer) => try_echo(peer, timing, &described),
            Err(error) => Verdict::not_opened(&error.to_string()),
        }
    }
}

/// An accepted connection has to work, with compressed messages, too, if they were agreed on.
fn try_echo(peer: Peer, timing: Timing, described: &str) -> Verdict {
    let mut steps = vec![plain(frame::TEXT, b"hello")];
    let mut events = vec![text(b"hello")];
    if let Some(params) = peer.params() {
        let mut deflater = Deflater::new(&params);
        // Long enough for a server that sends short messages as they are.
        let long = Kind::Json.corpus().message(0, 4096);
        for message in [&long[..], b"hello", &long[..]] {
            let head = frame::Head { rsv: 4, ..frame::Head::of(frame::TEXT) };
            let payload = Payload::new(&deflater.message(message));
            steps.push(Step::Frame(head, payload, Pace::Together));
            events.push(text(message));
        }
    }
    let echo = Session::echo(steps, events);
    let echoed = verdict::judge(&echo, &play::play(&echo, peer, timing, 1));
    verdict(echoed.grade, format!("{described}; {}", echoed.seen))
}

fn grade_of_no_answer(rule: Rule, answer: &Answer) -> Grade {
    match (rule, answer) {
        (Rule::Open, Answer::Ended | Answer::Silence) => Grade::Informational,
        (Rule::Accept { .. } | Rule::Deflate { .. }, _)
        | (_, Answer::NotHttp(_) | Answer::Head(_)) => Grade::Failed,
        // RFC 6455 §4.2.1 asks for an answer with an error code; a request that can not be
        // understood may also wait for more, and then time out.
        (
            Rule::ShouldAccept
            | Rule::Refuse { .. }
            | Rule::RefuseOrDecline
            | Rule::RefuseVersion
            | Rule::NotAnUpgrade,
            Answer::Ended | Answer::Silence,
        ) => Grade::NonStrict,
    }
}

/// The grade of an answer other than 101, and what is to be said about it.
fn grade_of_refusal(rule: Rule, head: &Head) -> (Grade, &'static str) {
    let is_error = (400..600).contains(&head.status);
    match rule {
        Rule::Accept { .. } => (Grade::Failed, ", but the request is valid"),
        // RFC 7692 §7.1 has offers declined; only what breaks the grammar fails the handshake.
        Rule::Deflate { instead: Instead::RefuseItsNeighbour, .. } => {
            (Grade::NonStrict, ", but one of the offers is valid")
        }
        Rule::Deflate { .. } => (Grade::Failed, ", but the offer is valid"),
        Rule::ShouldAccept => (Grade::NonStrict, ""),
        Rule::NotAnUpgrade => (Grade::Ok, ""),
        Rule::Open => (Grade::Informational, ""),
        Rule::Refuse { .. } | Rule::RefuseOrDecline | Rule::RefuseVersion if !is_error => {
            (Grade::NonStrict, ", which is no error")
        }
        Rule::RefuseOrDecline => (Grade::Ok, ""),
        Rule::Refuse { statuses } if statuses.is_empty() || statuses.contains(&head.status) => {
            (Grade::Ok, "")
        }
        Rule::Refuse { .. } => (Grade::NonStrict, ", which is another error than the RFC asks for"),
        // RFC 6455 §4.2.2: the header is a MUST, 426 is the example.
        Rule::RefuseVersion if !head.contains("Sec-WebSocket-Version", "13") => {
            (Grade::Failed, ", without Sec-WebSocket-Version: 13")
        }
        Rule::RefuseVersion if head.status != 426 => (Grade::NonStrict, ""),
        Rule::RefuseVersion => (Grade::Ok, ""),
    }
}

fn verdict(grade: Grade, seen: String) -> Verdict {
    let ending = if grade == Grade::Informational { Ending::Informational } else { Ending::Ok };
    Verdict { grade, behavior: grade, ending, code: Grade::Ok, close_code: None, seen }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(text: &str) -> Answer {
        use std::io::Write;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut sender = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        sender.write_all(text.as_bytes()).unwrap();
        drop(sender);
        let stream = crate::conform::wire::Wire::from(listener.accept().unwrap().0);
        Answer::read(&stream, std::time::Duration::from_secs(5))
    }

    fn refusal(rule: Rule, text: &str) -> Grade {
        match answer(text) {
            Answer::Head(head) => grade_of_refusal(rule, &head).0,
            other => grade_of_no_answer(rule, &other),
        }
    }

    const BAD: &str = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
    const FINE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

    #[test]
    fn refusing_a_valid_request_fails() {
        assert_eq!(refusal(ACCEPT, BAD), Grade::Failed);
        assert_eq!(refusal(ACCEPT, ""), Grade::Failed);
        assert_eq!(refusal(Rule::ShouldAccept, BAD), Grade::NonStrict);
    }

    #[test]
    fn refusal_is_an_error_status_of_those_asked_for() {
        assert_eq!(refusal(REFUSE, BAD), Grade::Ok);
        assert_eq!(refusal(REFUSE, FINE), Grade::NonStrict);
        assert_eq!(refusal(REFUSE, ""), Grade::NonStrict);
        assert_eq!(refusal(REFUSE, "SSH-2.0\r\n\r\n"), Grade::Failed);
        assert_eq!(refusal(Rule::Refuse { statuses: &[400] }, BAD), Grade::Ok);
        assert_eq!(refusal(Rule::Refuse { statuses: &[405] }, BAD), Grade::NonStrict);
        assert_eq!(refusal(Rule::NotAnUpgrade, FINE), Grade::Ok);
    }

    #[test]
    fn refused_version_names_the_one_that_is_spoken() {
        let named = "HTTP/1.1 426 x\r\nSec-WebSocket-Version: 8, 13\r\n\r\n";
        assert_eq!(refusal(Rule::RefuseVersion, named), Grade::Ok);
        let other = "HTTP/1.1 400 x\r\nSec-WebSocket-Version: 13\r\n\r\n";
        assert_eq!(refusal(Rule::RefuseVersion, other), Grade::NonStrict);
        assert_eq!(refusal(Rule::RefuseVersion, "HTTP/1.1 426 x\r\n\r\n"), Grade::Failed);
    }

    #[test]
    fn offers_may_be_declined_but_a_valid_one_is_no_reason_to_refuse() {
        let deflate = |instead| Rule::Deflate { offers: &[NAME], instead };
        assert_eq!(refusal(deflate(Instead::Decline), BAD), Grade::Failed);
        assert_eq!(refusal(deflate(Instead::DeclineFreely), BAD), Grade::Failed);
        assert_eq!(refusal(deflate(Instead::RefuseItsNeighbour), BAD), Grade::NonStrict);
        assert_eq!(refusal(Rule::RefuseOrDecline, BAD), Grade::Ok);
        assert_eq!(refusal(Rule::RefuseOrDecline, FINE), Grade::NonStrict);
        assert_eq!(refusal(Rule::RefuseOrDecline, ""), Grade::NonStrict);
    }

    #[test]
    fn what_is_left_open_is_only_told() {
        for text in [BAD, FINE, ""] {
            assert_eq!(refusal(Rule::Open, text), Grade::Informational, "{text}");
        }
    }
}
