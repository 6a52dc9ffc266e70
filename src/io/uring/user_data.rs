//! What a completion of the ring says about itself: which operation it ends, and whose.
//!
//! ```text
//! 63      56 55            32 31             0
//! +---------+----------------+----------------+
//! | kind    | generation     | index          |
//! +---------+----------------+----------------+
//! ```

use crate::io::Token;

/// The operations of the ring. Numbers start at 1, so that a zeroed word is none of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Op {
    /// Accepts peers; the index is the number of the listener.
    Accept = 1,
    /// Waits for the wake handle, many times.
    Wake,
    /// Watches a connection, many times.
    Poll,
    /// Receives once.
    Receive,
    /// Sends once.
    Send,
    /// Cancels another operation.
    Cancel,
    /// Shuts the write side of a slot of the file table down.
    Shutdown,
    /// Closes a slot of the file table.
    Close,
    /// Closes a slot that no connection was attached to, or prepares a close: nobody waits for it.
    Unattended,
}

/// Owner of the operations that belong to no connection.
pub(super) const NOBODY: Token = Token { index: u32::MAX, generation: 0 };

/// The word for an operation of `token`.
pub(super) fn pack(op: Op, token: Token) -> u64 {
    debug_assert!(token.generation <= Token::GENERATION_MAX, "a generation has 24 bits");
    u64::from(op as u8) << 56 | u64::from(token.generation) << 32 | u64::from(token.index)
}

/// The operation and its owner. None for what this driver never wrote.
pub(super) fn unpack(word: u64) -> Option<(Op, Token)> {
    let [kind, g2, g1, g0, index @ ..] = word.to_be_bytes();
    let op = match kind {
        1 => Op::Accept,
        2 => Op::Wake,
        3 => Op::Poll,
        4 => Op::Receive,
        5 => Op::Send,
        6 => Op::Cancel,
        7 => Op::Shutdown,
        8 => Op::Close,
        9 => Op::Unattended,
        _ => return None,
    };
    let generation = u32::from_be_bytes([0, g2, g1, g0]);
    Some((op, Token { index: u32::from_be_bytes(index), generation }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_and_token_is_told_apart() {
        let ops = [
            Op::Accept,
            Op::Wake,
            Op::Poll,
            Op::Receive,
            Op::Send,
            Op::Cancel,
            Op::Shutdown,
            Op::Close,
            Op::Unattended,
        ];
        for op in ops {
            for index in [0, 1, 0x1234_5678, u32::MAX] {
                for generation in [0, 1, 0xab_cdef, Token::GENERATION_MAX] {
                    let token = Token { index, generation };
                    assert_eq!(unpack(pack(op, token)), Some((op, token)));
                }
            }
        }
        assert_eq!(unpack(0), None);
        assert_eq!(unpack(u64::MAX), None);
    }
}
