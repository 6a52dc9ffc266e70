//! The update itself: a JSON text of 64 bytes, the same whichever way it travels.

use serde::{Deserialize, Serialize};

/// Bytes of an update, reached with filling at the end.
pub(crate) const UPDATE_BYTES: usize = 64;

/// One small piece of news for one client.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct Update {
    pub(crate) client: u64,
    /// Counts from 1 for each client.
    pub(crate) seq: u64,
    /// The instant of publishing, of `CLOCK_MONOTONIC`.
    pub(crate) at: u64,
}

impl Update {
    /// The text that travels.
    pub(crate) fn to_json(self) -> String {
        let Self { client, seq, at } = self;
        let mut text = format!("{{\"client\":{client},\"seq\":{seq},\"at\":{at},\"text\":\"");
        // Room for the quotation mark and the brace. Numbers too long for it just make it longer.
        while text.len() + 2 < UPDATE_BYTES {
            text.push('.');
        }
        text.push_str("\"}");
        text
    }

    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(bytes).map_err(|error| {
            format!("`{}` is not an update: {error}", String::from_utf8_lossy(bytes))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn update_has_its_size_and_comes_back_as_it_was() {
        for (client, seq, at) in [(0, 1, 0), (9_999, 3, 15_000_000_000_000), (19_000, 9, 1 << 50)] {
            let update = Update { client, seq, at };
            assert_eq!(update.to_json().len(), UPDATE_BYTES);
            assert_eq!(Update::parse(update.to_json().as_bytes()), Ok(update));
        }
    }

    #[test]
    fn what_is_no_update_is_named() {
        let error = Update::parse(b"Not Found").unwrap_err();
        assert!(error.contains("`Not Found` is not an update"), "{error}");
    }
}
