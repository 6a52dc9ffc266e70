//! A server's connection as RFC 6455 tells it: one byte after the other, everything copied, nothing
//! clever. It is told the facts that a rig has written down, and says what must have come of them:
//! which messages, which frames out in which order, and how the connection ended.
//!
//! It knows the policies of the library where the RFC leaves room (limits, which close code for
//! which fault, when a ping is due), and none of its ways: no blocks, no cuts, no queue but its size.

use longwire::SendError;
use longwire::fuzz_internals::{App, Fact, Inflater, Options, TAIL};

use crate::wire::{CLOSE, PING, PONG};

/// What was said: first byte and payload.
pub type Said = (u8, Vec<u8>);

/// How it ended: code, reason, and whether this side began.
pub type Ended = (u16, String, bool);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// We have sent a Close frame.
    Closing,
    Over,
}

/// A frame of which payload is still to come.
struct Frame {
    fin: bool,
    rsv1: bool,
    opcode: u8,
    key: [u8; 4],
    /// Payload bytes in all, and so far.
    len: u64,
    at: u64,
    /// Of a control frame.
    payload: Vec<u8>,
}

/// A message of which fragments are still to come.
struct Open {
    text: bool,
    compressed: bool,
    payload: Vec<u8>,
    /// Up to here it is whole UTF-8.
    checked: usize,
    announced: u64,
    empty_fragments: u16,
    since: u32,
}

/// The model of one connection.
pub struct Model {
    options: Options,
    phase: Phase,
    now: u32,
    heard_at: u32,
    pong_due: Option<u32>,
    close_due: u32,
    paused: bool,
    controls_used: u32,
    controls_at: u32,
    header: Vec<u8>,
    frame: Option<Frame>,
    message: Option<Open>,
    /// Taken when the first compressed message comes.
    inflater: Option<Inflater>,
    queued_bytes: usize,
    /// Messages that were received: whether text, and the payload.
    pub messages: Vec<(bool, Vec<u8>)>,
    /// Frames that were sent.
    pub said: Vec<Said>,
    /// The end, if it has come.
    pub ended: Option<Ended>,
}

/// The connection fails with this code.
struct Fails(u16);

impl Model {
    /// A connection that has just opened.
    pub fn new(options: Options) -> Self {
        Self {
            options,
            phase: Phase::Open,
            now: 0,
            heard_at: 0,
            pong_due: None,
            close_due: 0,
            paused: false,
            controls_used: 0,
            controls_at: 0,
            header: Vec::new(),
            frame: None,
            message: None,
            inflater: None,
            queued_bytes: 0,
            messages: Vec::new(),
            said: Vec::new(),
            ended: None,
        }
    }

    /// One more thing that happened.
    pub fn tell(&mut self, fact: &Fact) {
        match fact {
            // A queue of compressed messages has another size; nothing then asks for it.
            Fact::Sent(_) if self.options.send_bytes_max == usize::MAX => {}
            Fact::Sent(bytes) => self.queued_bytes -= bytes,
            Fact::Received(bytes) => self.receive(bytes),
            Fact::Send(text, payload, result) => {
                let expected = self.send(*text, payload);
                assert_eq!(*result, expected, "what came of a send");
            }
            Fact::Ping(payload, result) => {
                let expected = self.admit_send();
                assert_eq!(*result, expected, "what came of a ping");
                if expected.is_ok() {
                    self.say(PING, payload[..payload.len().min(125)].to_vec());
                }
            }
            Fact::Close(code, reason) => self.close(*code, reason),
            Fact::Paused => self.paused = true,
            Fact::Resumed => {
                self.paused = false;
                self.hear();
            }
            Fact::Ticked => self.tick(),
            Fact::PeerClosed | Fact::Failed => {
                let local = self.phase == Phase::Closing;
                self.end(1006, "", local);
            }
        }
    }

    fn receive(&mut self, bytes: &[u8]) {
        self.hear();
        for &byte in bytes {
            if self.phase == Phase::Over {
                return;
            }
            if let Err(Fails(code)) = self.byte(byte) {
                self.fail(code);
            }
        }
    }

    fn hear(&mut self) {
        if self.phase == Phase::Open {
            self.heard_at = self.now;
            self.pong_due = None;
        }
    }

    fn tick(&mut self) {
        self.now += 1;
        match self.phase {
            Phase::Open => self.tick_open(),
            Phase::Closing if self.close_due <= self.now => self.end(1006, "", true),
            Phase::Closing | Phase::Over => {}
        }
    }

    /// Silence counts only while we listen; a message has to end in time in any case.
    fn tick_open(&mut self) {
        let message_due = self.message.as_ref().map(|message| message.since + self.options.message);
        let interval = self.options.ping_interval * 80 / 100;
        if !self.paused && self.pong_due.is_some_and(|due| due <= self.now) {
            self.end(1006, "", true);
        } else if message_due.is_some_and(|due| due <= self.now) {
            self.fail(1008);
        } else if !self.paused
            && self.pong_due.is_none()
            && self.heard_at + interval.max(1) <= self.now
        {
            self.say(PING, Vec::new());
            self.pong_due = Some(self.now + self.options.pong);
        }
    }

    fn byte(&mut self, byte: u8) -> Result<(), Fails> {
        if self.frame.is_none() {
            self.header.push(byte);
            let Some(frame) = self.read_header()? else { return Ok(()) };
            self.header.clear();
            self.admit(&frame)?;
            self.frame = Some(frame);
        } else {
            self.payload_byte(byte)?;
        }
        if self.phase != Phase::Over
            && self.frame.as_ref().is_some_and(|frame| frame.at == frame.len)
        {
            return self.end_frame();
        }
        Ok(())
    }

    /// RFC 6455 §5.2, each byte judged when it comes.
    fn read_header(&mut self) -> Result<Option<Frame>, Fails> {
        let header = &self.header;
        let first = header[0];
        let (fin, opcode) = (first & 0x80 != 0, first & 0x0f);
        let control = opcode & 8 != 0;
        if !matches!(opcode, 0 | 1 | 2 | 8 | 9 | 10) || first & 0x30 != 0 {
            return Err(Fails(1002));
        }
        let begins = matches!(opcode, 1 | 2);
        if first & 0x40 != 0 && !(self.options.compression.is_some() && begins) {
            return Err(Fails(1002));
        }
        let Some(&second) = header.get(1) else { return Ok(None) };
        let short = second & 0x7f;
        if control && (!fin || short > 125) || second & 0x80 == 0 {
            return Err(Fails(1002));
        }
        let len_bytes = match short {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let long = &header[2..header.len().min(2 + len_bytes)];
        if len_bytes == 8 && (long.first().is_some_and(|byte| byte & 0x80 != 0)) {
            return Err(Fails(1002));
        }
        // As soon as no byte that follows can make the long form needed.
        let zeros = long.len() >= 6 && long[..6] == [0; 6];
        if len_bytes == 8 && zeros || len_bytes == 2 && long.len() == 2 && long < &[0, 126][..] {
            return Err(Fails(1002));
        }
        let Some(key) = header.get(2 + len_bytes..).and_then(|rest| rest.first_chunk()) else {
            return Ok(None);
        };
        let len = match len_bytes {
            0 => u64::from(short),
            _ => long.iter().fold(0, |len, byte| len << 8 | u64::from(*byte)),
        };
        Ok(Some(Frame {
            fin,
            rsv1: first & 0x40 != 0,
            opcode,
            key: *key,
            len,
            at: 0,
            payload: Vec::new(),
        }))
    }

    /// RFC 6455 §5.4, and our limits: what a whole header says is judged before its payload.
    fn admit(&mut self, frame: &Frame) -> Result<(), Fails> {
        if frame.opcode & 8 != 0 || self.phase == Phase::Closing {
            return Ok(());
        }
        let compressed = frame.rsv1;
        match (&self.message, frame.opcode) {
            (None, 0) | (Some(_), 1 | 2) => return Err(Fails(1002)),
            (Some(_), _) => {}
            (None, opcode) => {
                self.message = Some(Open {
                    text: opcode == 1,
                    compressed,
                    payload: Vec::new(),
                    checked: 0,
                    announced: 0,
                    empty_fragments: 0,
                    since: self.now,
                });
                let takeover = self.options.compression.is_some_and(|c| c.context_takeover);
                if compressed && !takeover {
                    self.inflater = None;
                }
            }
        }
        let Some(message) = &mut self.message else { return Ok(()) };
        let bound = |bytes: usize| match message.compressed {
            true => (bytes + bytes / 8 + 64) as u64,
            false => bytes as u64,
        };
        message.announced = message.announced.saturating_add(frame.len);
        if frame.len > bound(self.options.frame_bytes_max)
            || message.announced > bound(self.options.message_bytes_max)
        {
            return Err(Fails(1009));
        }
        let empty = frame.len == 0 && !frame.fin;
        message.empty_fragments = if empty { message.empty_fragments + 1 } else { 0 };
        if message.empty_fragments > self.options.empty_fragments_max {
            return Err(Fails(1008));
        }
        Ok(())
    }

    fn payload_byte(&mut self, byte: u8) -> Result<(), Fails> {
        let Some(frame) = &mut self.frame else { return Ok(()) };
        let byte = byte ^ frame.key[(frame.at % 4) as usize];
        frame.at += 1;
        if frame.opcode & 8 != 0 {
            frame.payload.push(byte);
            return Ok(());
        }
        let bytes_max = self.options.message_bytes_max;
        match &mut self.message {
            Some(message) if message.compressed => {
                message.inflate(byte, bytes_max, self.inflater.get_or_insert_default())
            }
            Some(message) => message.push(byte, bytes_max),
            // We are closing: nobody reads it.
            None => Ok(()),
        }
    }

    fn end_frame(&mut self) -> Result<(), Fails> {
        let Some(frame) = self.frame.take() else { return Ok(()) };
        match frame.opcode {
            8 => return self.end_close(&frame.payload),
            9 => {
                self.take_control()?;
                if self.phase == Phase::Open {
                    self.say(PONG, frame.payload);
                }
                return Ok(());
            }
            10 => return self.take_control(),
            _ => {}
        }
        let Some(mut message) = self.message.take_if(|_| frame.fin) else { return Ok(()) };
        if message.compressed {
            for byte in TAIL {
                let inflater = self.inflater.get_or_insert_default();
                message.inflate(byte, self.options.message_bytes_max, inflater)?;
            }
        }
        if message.text && message.checked < message.payload.len() {
            return Err(Fails(1007));
        }
        self.messages.push((message.text, message.payload.clone()));
        match self.options.app {
            App::Listen => {}
            App::Echo => {
                let _ = self.send(message.text, &message.payload);
            }
            App::Copy => {
                let _ = self.send(message.text, &message.payload);
                if message.payload.starts_with(b"!") {
                    self.close(4000, "");
                }
            }
        }
        Ok(())
    }

    /// RFC 6455 §5.5.1 and §7.4.
    fn end_close(&mut self, payload: &[u8]) -> Result<(), Fails> {
        let (code, reason) = match payload {
            [] => (1005, ""),
            [_] => return Err(Fails(1002)),
            [high, low, reason @ ..] => {
                let code = u16::from_be_bytes([*high, *low]);
                if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
                    return Err(Fails(1002));
                }
                (code, std::str::from_utf8(reason).map_err(|_| Fails(1007))?)
            }
        };
        let local = self.phase == Phase::Closing;
        if !local {
            self.say(CLOSE, payload.to_vec());
        }
        self.end(code, reason, local);
        Ok(())
    }

    /// So many at once, and one more with each tick.
    fn take_control(&mut self) -> Result<(), Fails> {
        self.controls_used = self.controls_used.saturating_sub(self.now - self.controls_at);
        self.controls_at = self.now;
        self.controls_used += 1;
        if self.controls_used > u32::from(self.options.control_frames_burst) {
            return Err(Fails(1008));
        }
        Ok(())
    }

    fn admit_send(&mut self) -> Result<(), SendError> {
        if self.phase != Phase::Open {
            return Err(SendError::Closed);
        }
        if self.queued_bytes >= self.options.send_bytes_max {
            self.fail(1013);
            return Err(SendError::QueueFull);
        }
        Ok(())
    }

    fn send(&mut self, text: bool, payload: &[u8]) -> Result<(), SendError> {
        self.admit_send()?;
        self.say(if text { 0x81 } else { 0x82 }, payload.to_vec());
        Ok(())
    }

    fn close(&mut self, code: u16, reason: &str) {
        if self.phase != Phase::Open {
            return;
        }
        self.say(CLOSE, [&code.to_be_bytes(), reason.as_bytes()].concat());
        self.message = None;
        self.phase = Phase::Closing;
        self.close_due = self.now + self.options.close;
    }

    fn fail(&mut self, code: u16) {
        if self.phase == Phase::Open {
            self.say(CLOSE, code.to_be_bytes().to_vec());
        }
        self.end(code, "", true);
    }

    fn end(&mut self, code: u16, reason: &str, local: bool) {
        if self.phase != Phase::Over {
            self.ended = Some((code, reason.to_owned(), local));
        }
        self.phase = Phase::Over;
    }

    fn say(&mut self, first: u8, payload: Vec<u8>) {
        let header_bytes = match payload.len() {
            0..=125 => 2,
            126..=0xffff => 4,
            _ => 10,
        };
        self.queued_bytes = self.queued_bytes.saturating_add(header_bytes + payload.len());
        self.said.push((first, payload));
    }
}

impl Open {
    /// Inflates with one byte of input and one byte of room at a time, so that no other way can
    /// have found anything earlier.
    fn inflate(
        &mut self,
        byte: u8,
        bytes_max: usize,
        inflater: &mut Inflater,
    ) -> Result<(), Fails> {
        let mut input = &[byte][..];
        loop {
            let mut room = [0];
            let (consumed, produced) = inflater.push(input, &mut room).ok_or(Fails(1007))?;
            input = &input[consumed..];
            if produced == 0 {
                return Ok(());
            }
            self.push(room[0], bytes_max)?;
        }
    }

    fn push(&mut self, byte: u8, bytes_max: usize) -> Result<(), Fails> {
        if self.payload.len() == bytes_max {
            return Err(Fails(1009));
        }
        self.payload.push(byte);
        if self.text {
            match std::str::from_utf8(&self.payload[self.checked..]) {
                Ok(_) => self.checked = self.payload.len(),
                Err(error) if error.error_len().is_some() => return Err(Fails(1007)),
                Err(_) => {}
            }
        }
        Ok(())
    }
}
