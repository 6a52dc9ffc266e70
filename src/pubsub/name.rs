//! What a topic may be called.

use std::fmt;

/// Bytes of the longest name, unless the server is set otherwise.
pub(crate) const TOPIC_BYTES_MAX: usize = 255;

/// Why a name is not one of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidTopic {
    /// It has no byte.
    Empty,
    /// It has more bytes than [`topic_bytes_max`](crate::Builder::topic_bytes_max).
    TooLong,
    /// It has a control character or white space.
    Blank,
    /// It has a `*` or `>`: wildcards of brokers, which have no meaning here.
    Wildcard,
}

impl InvalidTopic {
    /// What is wrong with this name, if anything, where names have at most so many bytes
    /// ([`topic_bytes_max`](crate::Builder::topic_bytes_max)): for those who want to know before
    /// they subscribe or publish.
    ///
    /// ```
    /// use longwire::InvalidTopic;
    ///
    /// assert_eq!(InvalidTopic::of("prices/EUR", 255), None);
    /// assert_eq!(InvalidTopic::of("prices/*", 255), Some(InvalidTopic::Wildcard));
    /// ```
    pub fn of(name: &str, bytes_max: usize) -> Option<Self> {
        check(name, bytes_max).err()
    }
}

impl fmt::Display for InvalidTopic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "a topic has a name",
            Self::TooLong => "the name of the topic is too long",
            Self::Blank => "the name of a topic has no white space and no control characters",
            Self::Wildcard => "the name of a topic has no wildcards: neither * nor >",
        })
    }
}

impl std::error::Error for InvalidTopic {}

/// Whether this may be the name of a topic (row PS03).
pub(crate) fn check(name: &str, bytes_max: usize) -> Result<(), InvalidTopic> {
    if name.is_empty() {
        return Err(InvalidTopic::Empty);
    }
    if name.len() > bytes_max {
        return Err(InvalidTopic::TooLong);
    }
    if name.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(InvalidTopic::Blank);
    }
    if name.contains(['*', '>']) {
        return Err(InvalidTopic::Wildcard);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ps03_names_are_short_and_visible() {
        for (name, expected) in [
            ("a", Ok(())),
            ("prices.EUR/USD", Ok(())),
            ("räume/küche", Ok(())),
            ("$SYS", Ok(())),
            (&"x".repeat(255), Ok(())),
            ("", Err(InvalidTopic::Empty)),
            (&"x".repeat(256), Err(InvalidTopic::TooLong)),
            (&"ü".repeat(128), Err(InvalidTopic::TooLong)),
            ("a b", Err(InvalidTopic::Blank)),
            ("a\u{a0}b", Err(InvalidTopic::Blank)),
            ("a\0", Err(InvalidTopic::Blank)),
            ("a\r\nPUB x", Err(InvalidTopic::Blank)),
            ("\u{85}", Err(InvalidTopic::Blank)),
        ] {
            assert_eq!(check(name, TOPIC_BYTES_MAX), expected, "{name:?}");
        }
    }

    #[test]
    fn ps04_wildcards_are_no_names() {
        for name in [">", "*", "a.*", "$SYS.>", "__keyspace@0__:*"] {
            assert_eq!(check(name, TOPIC_BYTES_MAX), Err(InvalidTopic::Wildcard), "{name}");
        }
    }
}
