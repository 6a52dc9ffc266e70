//! Frames as a peer writes and reads them, built on nothing of the library.

/// First bytes of frames.
pub const CLOSE: u8 = 0x88;
pub const PING: u8 = 0x89;
pub const PONG: u8 = 0x8a;

/// What was read of a frame: its first byte, and the payload without its mask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub first: u8,
    pub masked: bool,
    pub payload: Vec<u8>,
}

/// Reads whole frames from the start of `bytes`; returns the rest, which is a cut frame.
pub fn read(mut bytes: &[u8]) -> (Vec<Frame>, &[u8]) {
    let mut frames = Vec::new();
    while let Some((frame, rest)) = read_one(bytes) {
        frames.push(frame);
        bytes = rest;
    }
    (frames, bytes)
}

fn read_one(bytes: &[u8]) -> Option<(Frame, &[u8])> {
    let (&[first, second], mut rest) = bytes.split_first_chunk()?;
    let len = match second & 0x7f {
        126 => {
            let (len, after) = rest.split_first_chunk()?;
            rest = after;
            u64::from(u16::from_be_bytes(*len))
        }
        127 => {
            let (len, after) = rest.split_first_chunk()?;
            rest = after;
            u64::from_be_bytes(*len)
        }
        len => u64::from(len),
    };
    let masked = second & 0x80 != 0;
    let mut key = [0; 4];
    if masked {
        (key, rest) = rest.split_first_chunk().map(|(key, rest)| (*key, rest))?;
    }
    let (payload, rest) = rest.split_at_checked(usize::try_from(len).ok()?)?;
    let mut payload = payload.to_vec();
    mask(&mut payload, key);
    Some((Frame { first, masked, payload }, rest))
}

/// Appends a frame; the length in its shortest form.
pub fn write(first: u8, payload: &[u8], key: Option<[u8; 4]>, out: &mut Vec<u8>) {
    let mask_bit = if key.is_some() { 0x80 } else { 0 };
    out.push(first);
    match payload.len() {
        len @ 0..=125 => out.push(mask_bit | len as u8),
        len @ 126..=0xffff => {
            out.push(mask_bit | 126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            out.push(mask_bit | 127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(key.as_ref().map_or(&[], |key| &key[..]));
    let start = out.len();
    out.extend_from_slice(payload);
    mask(&mut out[start..], key.unwrap_or_default());
}

/// Masks, or unmasks.
pub fn mask(bytes: &mut [u8], key: [u8; 4]) {
    for (byte, key) in bytes.iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
}
