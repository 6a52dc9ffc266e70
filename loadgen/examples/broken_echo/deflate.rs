//! permessage-deflate of the broken echo server: right, or wrong in the ways it is asked to be.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::{Faults, is_name};

const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
const MESSAGE_BYTES_MAX: usize = 32 << 20;

/// What was agreed on, and both contexts.
pub(crate) struct Deflate {
    faults: Faults,
    server_forgets: bool,
    client_forgets: bool,
    compress: Compress,
    decompress: Decompress,
}

impl Deflate {
    /// Takes the first offer that it can, if there is one; returns also the answer's header value.
    pub(crate) fn accept(lines: &[&str], faults: Faults) -> Option<(Self, String)> {
        let offers = lines.iter().flat_map(|line| split(line, ','));
        offers.map(|offer| Self::take(offer, faults)).find_map(|taken| taken)
    }

    fn take(offer: &str, faults: Faults) -> Option<(Self, String)> {
        let mut parts = split(offer, ';');
        if parts.next() != Some("permessage-deflate") {
            return None;
        }
        let (mut server_forgets, mut client_forgets, mut server_bits) = (false, false, 15);
        let mut seen = Vec::new();
        for part in parts {
            let (name, value) = match part.split_once('=') {
                Some((name, value)) => (name, Some(value.trim_matches('"'))),
                None => (part, None),
            };
            let bits = value.and_then(|value| {
                let bits = value.parse::<u8>().ok().filter(|bits| (8..=15).contains(bits));
                bits.filter(|bits| bits.to_string() == value)
            });
            let is_right = match (name, value, bits) {
                ("server_no_context_takeover", None, _) => {
                    server_forgets = true;
                    true
                }
                ("client_no_context_takeover", None, _) => {
                    client_forgets = true;
                    true
                }
                ("client_max_window_bits", None, _) | ("client_max_window_bits", _, Some(_)) => {
                    true
                }
                ("server_max_window_bits", _, Some(bits)) => {
                    server_bits = bits;
                    bits > 8
                }
                _ => false,
            };
            if (!is_right || seen.contains(&name)) && !faults.any_offer {
                return None;
            }
            seen.push(name);
        }
        let mut answer = "permessage-deflate".to_owned();
        if !faults.silent_answer {
            answer.push_str(if server_forgets { "; server_no_context_takeover" } else { "" });
            answer.push_str(if client_forgets { "; client_no_context_takeover" } else { "" });
            if server_bits < 15 || offer.contains("server_max_window_bits") {
                answer.push_str(&format!("; server_max_window_bits={server_bits}"));
            }
        }
        let used_bits = if faults.wide_window { 15 } else { server_bits.max(9) };
        let level = Compression::new(4);
        let deflate = Self {
            faults,
            server_forgets,
            // Nobody was told about it.
            client_forgets: client_forgets && !faults.silent_answer,
            compress: Compress::new_with_window_bits(level, false, used_bits),
            decompress: Decompress::new(false),
        };
        Some((deflate, answer))
    }

    /// The message as it was, or the code to fail the connection with.
    pub(crate) fn inflate(&mut self, payload: &[u8]) -> Result<Vec<u8>, u16> {
        if self.client_forgets {
            self.decompress.reset(false);
        }
        let mut message = Vec::new();
        for mut input in [payload, &TAIL] {
            loop {
                let mut block = [0; 16_384];
                let before = (self.decompress.total_in(), self.decompress.total_out());
                let status = self.decompress.decompress(input, &mut block, FlushDecompress::Sync);
                let Ok(status) = status else {
                    // It should say so, and not go on with what it has.
                    return if self.faults.any_data { Ok(message) } else { Err(1007) };
                };
                let read = moved(before.0, self.decompress.total_in());
                let written = moved(before.1, self.decompress.total_out());
                input = &input[read..];
                message.extend_from_slice(&block[..written]);
                if message.len() > MESSAGE_BYTES_MAX && !self.faults.no_limit {
                    return Err(1009);
                }
                if status == Status::StreamEnd {
                    if self.faults.last_block {
                        return Err(1007);
                    }
                    self.decompress.reset(false);
                }
                if written < block.len() && (status != Status::StreamEnd || input.is_empty()) {
                    break;
                }
            }
        }
        Ok(message)
    }

    pub(crate) fn deflate(&mut self, message: &[u8]) -> Vec<u8> {
        if self.server_forgets && !self.faults.takeover {
            self.compress.reset();
        }
        let mut out = Vec::with_capacity(message.len() + 64);
        let start = self.compress.total_in();
        loop {
            let used = moved(start, self.compress.total_in());
            let _ = self.compress.compress_vec(&message[used..], &mut out, FlushCompress::Sync);
            if moved(start, self.compress.total_in()) == message.len() && out.len() < out.capacity()
            {
                break;
            }
            out.reserve(1024);
        }
        if !self.faults.tail && out.ends_with(&TAIL) {
            out.truncate(out.len() - TAIL.len());
        }
        if out.is_empty() { vec![0] } else { out }
    }
}

/// How far a counter went, which moves no further than a message is long.
fn moved(before: u64, after: u64) -> usize {
    usize::try_from(after - before).expect("a message fits memory")
}

/// Whether a line keeps to the grammar of RFC 6455 §9.1.
pub(crate) fn is_well_formed(line: &str) -> bool {
    split(line, ',').all(|element| {
        split(element, ';').enumerate().all(|(index, part)| match part.split_once('=') {
            Some(_) if index == 0 => false,
            Some((name, value)) => {
                let inner = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
                is_name(name) && (inner.is_some_and(|text| !text.contains('"')) || is_name(value))
            }
            None => is_name(part),
        })
    })
}

/// Elements between separators that do not stand in quotation marks.
fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    let parts = text.split(move |character| {
        quoted ^= character == '"';
        character == separator && !quoted
    });
    parts.map(str::trim)
}
