//! permessage-deflate: its engines, and what is agreed about it.

use crate::proto::deflate;
use crate::proto::handshake::extensions::{
    self, ANSWER_BYTES_MAX, DeflateParams, DeflatePolicy, accept_answer, accept_offer,
};

/// What is put back behind each compressed message.
pub const TAIL: [u8; 4] = deflate::TAIL;

/// Decompresses messages.
pub struct Inflater(deflate::Inflater);

impl Default for Inflater {
    fn default() -> Self {
        Self(deflate::Inflater::new())
    }
}

impl Inflater {
    /// Forgets all before.
    pub fn reset(&mut self) {
        self.0.reset();
    }

    /// Bytes read and written, or nothing if the data is malformed.
    pub fn push(&mut self, input: &[u8], output: &mut [u8]) -> Option<(usize, usize)> {
        self.0.push(input, output).ok()
    }
}

/// Compresses messages.
pub struct Deflater(deflate::Deflater);

impl Deflater {
    /// A compressor of this level and window.
    pub fn new(level: u8, window_bits: u8) -> Self {
        Self(deflate::Deflater::new(level, window_bits))
    }

    /// Forgets all before.
    pub fn reset(&mut self) {
        self.0.reset();
    }

    /// Appends a message.
    pub fn deflate(&mut self, payload: &[u8], out: &mut Vec<u8>) {
        self.0.deflate(payload, out);
    }
}

/// What was agreed: takeover of server and client, windows of server and client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreed {
    pub server_no_context_takeover: bool,
    pub client_no_context_takeover: bool,
    pub server_window_bits: u8,
    pub client_window_bits: u8,
}

impl From<DeflateParams> for Agreed {
    fn from(params: DeflateParams) -> Self {
        let DeflateParams {
            server_no_context_takeover,
            client_no_context_takeover,
            server_window_bits,
            client_window_bits,
        } = params;
        Self {
            server_no_context_takeover,
            client_no_context_takeover,
            server_window_bits,
            client_window_bits,
        }
    }
}

/// The offer of a client that wants this.
pub fn offer(context_takeover: bool, window_bits_max: u8) -> String {
    extensions::offer(&DeflatePolicy { context_takeover, window_bits_max })
}

/// What a server that wants this makes of the lines of an offer: what then holds, and its answer.
pub fn judge_offer(
    lines: &[&[u8]],
    context_takeover: bool,
    window_bits_max: u8,
) -> Option<(Agreed, Vec<u8>)> {
    let policy = DeflatePolicy { context_takeover, window_bits_max };
    let acceptance = accept_offer(lines.iter().copied(), &policy)?;
    let mut answer = vec![0; ANSWER_BYTES_MAX];
    let len = acceptance.write_answer(&mut answer);
    answer.truncate(len);
    Some((acceptance.params.into(), answer))
}

/// What a client that wants this makes of the lines of an answer; an error if it is no answer.
pub fn judge_answer(
    lines: &[&[u8]],
    context_takeover: bool,
    window_bits_max: u8,
) -> Result<Option<Agreed>, String> {
    let policy = DeflatePolicy { context_takeover, window_bits_max };
    match accept_answer(lines.iter().copied(), &policy) {
        Ok(params) => Ok(params.map(Agreed::from)),
        Err(error) => Err(format!("{error:?}")),
    }
}
