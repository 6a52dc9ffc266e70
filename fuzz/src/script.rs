//! A script out of an input: what the peer sends and how it is cut, what the application does, how
//! much the peer takes, and time passing. Every input is a script, and a byte more or less changes
//! little of it, which is what makes mutations useful.

use longwire::fuzz_internals::{App, Compression, Options, Rig};
use miniz_oxide::deflate::compress_to_vec;

use crate::wire;

/// Things done in one script.
const STEPS_MAX: usize = 200;

/// The bytes of an input that are not used yet; zeros behind its end.
pub struct Script<'a> {
    rest: &'a [u8],
    /// What the peer has written and not sent.
    pending: Vec<u8>,
}

impl<'a> Script<'a> {
    /// A script, and the connection it is for.
    pub fn of(input: &'a [u8]) -> (Self, Options) {
        let mut script = Self { rest: input, pending: Vec::new() };
        let (how, limits) = (script.byte(), script.byte());
        (script, options(how, limits))
    }

    /// Does all that the script says.
    pub fn play(mut self, rig: &mut Rig) {
        for _ in 0..STEPS_MAX {
            if self.rest.is_empty() || rig.is_over() {
                break;
            }
            self.step(rig);
        }
        self.send_pending(rig, usize::MAX);
    }

    /// The low half of a byte says what, the high half how.
    fn step(&mut self, rig: &mut Rig) {
        let step = self.byte();
        let how = step >> 4;
        let fin = if how & 1 == 0 { 0x80 } else { 0 };
        match step & 15 {
            0 => self.write_text(fin | 0x01),
            1 => self.write_data(fin | 0x02),
            2 => self.write_text(0x01),
            3 => self.write_data(fin),
            4 => self.write_control(wire::PING),
            5 => self.write_control(wire::PONG),
            6 => self.write_control(wire::CLOSE),
            7 => {
                let len = self.byte() & 31;
                let raw = self.take(len.into());
                self.pending.extend_from_slice(raw);
            }
            8 => {
                let first = self.byte();
                self.write_data(first);
            }
            9 => self.write_large(fin | 0x02),
            10 => self.write_compressed(how),
            11 => return self.send(rig, how),
            12 => return self.act(rig, how),
            13 => return self.take_or_not(rig, how),
            14 => return rig.sleep(if how < 12 { 1 + u32::from(how) } else { 30 }),
            _ => return self.cut_or_end(rig, how),
        }
        if how & 8 == 0 {
            self.send_pending(rig, usize::MAX);
        }
    }

    fn write_text(&mut self, first: u8) {
        let len = usize::from(self.byte());
        // Mostly of two bytes and three, so that a cut falls into a character.
        let text = "\u{e9}a\u{20ac}\u{1f600}".repeat(len / 10 + 1);
        let payload = text.as_bytes()[..len.min(text.len())].to_vec();
        self.write(first, &payload);
    }

    fn write_data(&mut self, first: u8) {
        let len = self.byte() & 127;
        let payload = self.take(len.into());
        self.write(first, payload);
    }

    fn write_control(&mut self, first: u8) {
        let len = self.byte() & 15;
        let payload = self.take(len.into());
        self.write(first, payload);
    }

    /// Long enough for the other two forms of the length, and to be received in its place.
    fn write_large(&mut self, first: u8) {
        let len = usize::from(self.byte()).pow(2);
        let letter = b'a' + self.byte() % 26;
        self.write(first, &vec![letter; len]);
    }

    /// A message as a compressor writes it, whole or as its first fragment and the rest.
    fn write_compressed(&mut self, how: u8) {
        let (len, byte) = (usize::from(self.byte()), self.byte());
        let plain = vec![byte & 127; if how & 2 == 0 { len } else { len * 30 }];
        let mut payload = compress_to_vec(&plain, how & 4);
        // A block with BFINAL, and the first byte of an empty one that the tail goes on with.
        payload.push(0);
        if how & 1 == 0 {
            self.write(0xc1, &payload);
            return;
        }
        let (start, end) = payload.split_at(usize::from(self.byte()) % payload.len());
        self.write(0x41, start);
        self.write(0x80, end);
    }

    fn write(&mut self, first: u8, payload: &[u8]) {
        let key = [0x37, 0xfa, 0x21, payload.len() as u8];
        wire::write(first, payload, Some(key), &mut self.pending);
    }

    fn send(&mut self, rig: &mut Rig, how: u8) {
        let len = usize::from(self.byte()) * if how & 1 == 0 { 1 } else { 40 };
        let text = how & 2 == 0;
        match how & 12 {
            0 | 4 | 8 => rig.send(text, "ab".repeat(len).as_bytes()),
            _ => rig.ping(&vec![b'p'; len]),
        }
    }

    fn act(&mut self, rig: &mut Rig, how: u8) {
        match how {
            0..3 => rig.hold(true),
            3..6 => rig.hold(false),
            6 | 7 => rig.press(how == 6),
            _ => {
                let code = [1000, 1001, 1011, 3000][usize::from(how & 3)];
                rig.close(code, if how & 4 == 0 { "" } else { "bye" });
            }
        }
    }

    fn take_or_not(&mut self, rig: &mut Rig, how: u8) {
        match how {
            0..4 => rig.give_room(None),
            4..8 => {
                let bytes = usize::from(self.byte());
                rig.give_room(Some(bytes << (how & 3)));
            }
            8..12 => rig.take_at_most(1 << (3 * (how & 3))),
            _ => rig.batch(how & 1 == 0),
        }
    }

    fn cut_or_end(&mut self, rig: &mut Rig, how: u8) {
        match how {
            0..12 => {
                let bytes = usize::from(self.byte());
                self.send_pending(rig, bytes << (how & 7));
            }
            12 | 13 => {
                let bytes = usize::from(self.byte());
                self.pending.truncate(bytes);
            }
            14 => rig.receive_end(),
            _ => rig.break_off(),
        }
    }

    fn send_pending(&mut self, rig: &mut Rig, bytes: usize) {
        let rest = self.pending.split_off(bytes.min(self.pending.len()));
        rig.receive(&std::mem::replace(&mut self.pending, rest));
    }

    fn byte(&mut self) -> u8 {
        let Some((&byte, rest)) = self.rest.split_first() else { return 0 };
        self.rest = rest;
        byte
    }

    fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(len.min(self.rest.len()));
        self.rest = rest;
        taken
    }
}

fn options(how: u8, limits: u8) -> Options {
    let compression = (how & 0x10 != 0).then_some(Compression {
        context_takeover: how & 0x20 != 0,
        window_bits_max: if how & 0x40 != 0 { 10 } else { 15 },
        message_bytes_min: 8,
    });
    let few_pongs = limits & 0x20 != 0;
    // How much is queued cannot be told by a model that does not compress, nor by one that does
    // not know which pongs were left out.
    let known_queue = compression.is_none() && !few_pongs;
    Options {
        client: false,
        app: [App::Listen, App::Echo, App::Copy, App::Echo][usize::from(how & 3)],
        compression,
        frame_bytes_max: if limits & 1 == 0 { 40_000 } else { 200 },
        message_bytes_max: if limits & 2 == 0 { 60_000 } else { 260 },
        empty_fragments_max: 3,
        control_frames_burst: if limits & 4 == 0 { 200 } else { 5 },
        pongs_queued_max: if few_pongs { 2 } else { u16::MAX },
        send_high_water_bytes: if limits & 8 == 0 { 50_000 } else { 300 },
        send_bytes_max: if known_queue && limits & 0x10 != 0 { 2000 } else { usize::MAX },
        ping_interval: 20,
        pong: 11,
        message: 37,
        close: 7,
        linger: 5,
    }
}
