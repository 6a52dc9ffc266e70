//! Whole frames into memory the caller has: copied next to each other, or built around a payload
//! that is already in place.
//!
//! Chooses nothing: opcode, fragmenting and masking key come from the caller, and room for the
//! frame is the caller's too. INVARIANT: only the bytes of the frame are written.

use super::header::{Header, Opcode};
use super::mask::unmask;

/// Bytes of the frame around `payload_len` bytes of payload.
#[inline]
pub(crate) const fn frame_bytes(payload_len: usize, mask: Option<[u8; 4]>) -> usize {
    Header::encoded_len(payload_len, mask.is_some()) + payload_len
}

/// Writes a frame to the start of `out`, which has [`frame_bytes`] of room, and returns its length.
/// The payload is as long as the header says.
#[inline]
pub(crate) fn encode_frame(out: &mut [u8], header: &Header, payload: &[u8]) -> usize {
    debug_assert_eq!(header.payload_len, payload.len() as u64);
    let payload_start = header.encode(out);
    let frame_end = payload_start + payload.len();
    let body = &mut out[payload_start..frame_end];
    body.copy_from_slice(payload);
    if let Some(key) = header.mask {
        unmask(body, key);
    }
    frame_end
}

/// Makes an unfragmented frame of the payload at `payload_start` by writing its header directly in
/// front, and returns where the frame starts.
///
/// ```text
///   buf   |.......| header | payload |.......|
///                 ^ returned
///                          ^ payload_start
/// ```
///
/// At least [`Header::encoded_len`] bytes lie in front of the payload.
#[inline]
pub(crate) fn encode_in_place(
    buf: &mut [u8],
    payload_start: usize,
    payload_len: usize,
    opcode: Opcode,
    mask: Option<[u8; 4]>,
) -> usize {
    let header_bytes = Header::encoded_len(payload_len, mask.is_some());
    assert!(header_bytes <= payload_start, "the header has room in front of the payload");
    let frame_start = payload_start - header_bytes;
    let header = Header::whole(opcode, mask, payload_len);
    header.encode(&mut buf[frame_start..payload_start]);
    if let Some(key) = mask {
        unmask(&mut buf[payload_start..payload_start + payload_len], key);
    }
    frame_start
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::header::{HEADER_BYTES_MAX, Role};

    const LENS: [usize; 9] = [0, 1, 5, 125, 126, 300, 65_535, 65_536, 70_001];
    const MASKS: [Option<[u8; 4]>; 3] = [None, Some([0; 4]), Some([0xa1, 0xb2, 0xc3, 0xd4])];

    fn payload(len: usize) -> Vec<u8> {
        let mut rng = fastrand::Rng::with_seed(len as u64);
        std::iter::repeat_with(|| rng.u8(..)).take(len).collect()
    }

    /// Reads a frame back by the definition: header and unmasked payload.
    fn read(frame: &[u8], mask: Option<[u8; 4]>) -> (Header, Vec<u8>) {
        let role = if mask.is_some() { Role::Server } else { Role::Client };
        let (header, start) = Header::decode(frame, role, false).unwrap().unwrap();
        let key = header.mask.unwrap_or_default();
        let bytes = frame[start..].iter().zip(key.iter().cycle());
        (header, bytes.map(|(byte, key)| byte ^ key).collect())
    }

    /// Every length under every mask; Miri is too slow for the largest.
    fn cases() -> impl Iterator<Item = (usize, Option<[u8; 4]>)> {
        let lens = LENS.into_iter().filter(|&len| !cfg!(miri) || len < 1000);
        lens.flat_map(|len| MASKS.map(|mask| (len, mask)))
    }

    #[test]
    fn copied_frame_reads_back_as_what_was_given() {
        for (len, mask) in cases() {
            let given = payload(len);
            let mut out = vec![0xee; len + HEADER_BYTES_MAX + 3];
            let header = Header { fin: len % 2 == 0, ..Header::whole(Opcode::Binary, mask, len) };
            let end = encode_frame(&mut out, &header, &given);
            assert_eq!(end, frame_bytes(len, mask));
            let (header, body) = read(&out[..end], mask);
            assert_eq!((header.fin, header.opcode), (len % 2 == 0, Opcode::Binary));
            assert_eq!((header.mask, header.payload_len), (mask, len as u64));
            assert!(body == given, "{len} bytes, mask {mask:?}");
            assert!(out[end..].iter().all(|&byte| byte == 0xee), "nothing behind the frame");
        }
    }

    #[test]
    fn frame_built_in_place_is_the_copied_one() {
        for (len, mask) in cases() {
            let given = payload(len);
            let mut copied = vec![0; frame_bytes(len, mask)];
            encode_frame(&mut copied, &Header::whole(Opcode::Text, mask, len), &given);
            let header_bytes = copied.len() - len;
            for payload_start in [header_bytes, HEADER_BYTES_MAX, 33] {
                let mut buf = vec![0xee; payload_start];
                buf.extend_from_slice(&given);
                buf.extend_from_slice(&[0xee; 3]);
                let start = encode_in_place(&mut buf, payload_start, len, Opcode::Text, mask);
                assert_eq!(start, payload_start - header_bytes);
                assert!(buf[start..payload_start + len] == copied[..]);
                let (around, end) = (&buf[..start], &buf[payload_start + len..]);
                assert!(around.iter().chain(end).all(|&byte| byte == 0xee));
            }
        }
    }

    #[test]
    #[should_panic(expected = "the header has room in front of the payload")]
    fn frame_without_room_for_its_header_is_our_mistake() {
        encode_in_place(&mut [0; 200], 3, 126, Opcode::Text, None);
    }
}
