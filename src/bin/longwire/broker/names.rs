//! What topics are called at the broker: names that no client can make into a wildcard, a subject
//! of the broker's own, or that of another topic.
//!
//! `PREFIX.t.NAME` is a topic, `PREFIX.c` is where nodes speak to each other. In NAME stand letters,
//! digits, `-` and `_`; any other byte is a percent sign and two digits, so there are no further
//! dots. A name that would be too long for the command line of a broker is a `#` and its SHA-256.

use std::fmt::Write as _;

use ring::digest;

/// Bytes of a name that is written out; NATS refuses command lines of more than 4 KiB.
const NAME_BYTES_MAX: usize = 180;
pub(super) const PREFIX_BYTES_MAX: usize = 64;
/// Bytes of the longest subject.
pub(super) const SUBJECT_BYTES_MAX: usize = PREFIX_BYTES_MAX + ".t.".len() + NAME_BYTES_MAX;

/// Makes names of one prefix.
#[derive(Clone, Debug)]
pub(super) struct Subjects {
    prefix: String,
}

impl Subjects {
    /// Clusters that share a broker have a prefix each.
    pub(super) fn new(prefix: &str) -> Result<Self, String> {
        let is_word = |word: &str| {
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
            !word.is_empty() && word.bytes().all(is_plain)
        };
        let is_long = prefix.len() > PREFIX_BYTES_MAX;
        // NATS answers requests below `_INBOX`.
        if is_long || prefix.starts_with('_') || !prefix.split('.').all(is_word) {
            return Err(format!(
                "--broker-prefix is up to {PREFIX_BYTES_MAX} letters, digits, `-` and `_`, in words \
                 with a dot between them: longwire, prod.chat"
            ));
        }
        Ok(Self { prefix: prefix.to_owned() })
    }

    /// Of a topic.
    pub(super) fn of(&self, topic: &str) -> String {
        let mut subject = format!("{}.t.", self.prefix);
        let start = subject.len();
        for byte in topic.bytes() {
            if subject.len() - start > NAME_BYTES_MAX {
                break;
            }
            match byte {
                b'-' | b'_' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => {
                    subject.push(char::from(byte));
                }
                _ => write!(subject, "%{byte:02X}").expect("a string takes all"),
            }
        }
        if subject.len() - start > NAME_BYTES_MAX {
            subject.truncate(start);
            subject.push('#');
            for byte in digest::digest(&digest::SHA256, topic.as_bytes()).as_ref() {
                write!(subject, "{byte:02x}").expect("a string takes all");
            }
        }
        subject
    }

    /// Where nodes speak to each other.
    pub(super) fn control(&self) -> String {
        format!("{}.c", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn names_are_written_plainly() {
        let subjects = Subjects::new("longwire").unwrap();
        for (topic, subject) in [
            ("lobby", "longwire.t.lobby"),
            ("prices/EUR", "longwire.t.prices%2FEUR"),
            ("a.b", "longwire.t.a%2Eb"),
            ("$SYS", "longwire.t.%24SYS"),
            ("%2F", "longwire.t.%252F"),
            ("r\u{e4}ume", "longwire.t.r%C3%A4ume"),
        ] {
            assert_eq!(subjects.of(topic), subject);
        }
        assert_eq!(subjects.control(), "longwire.c");
    }

    /// Random names of letters that mean something to brokers, and their neighbours by one change.
    #[test]
    fn no_name_is_a_wildcard_or_that_of_another_topic() {
        let subjects = Subjects::new("a.b").unwrap();
        let letters =
            ["*", ">", ".", "$", "#", "%", " ", "\r", "\n", "\0", "a", "2", "F", "\u{e9}"];
        let mut topic_of: HashMap<String, String> = HashMap::new();
        for round in 0..20_000 {
            let length = if round % 10 == 0 { 50 + round % 200 } else { 1 + round % 6 };
            let topic: String =
                (0..length).map(|_| letters[fastrand::usize(..letters.len())]).collect();
            let subject = subjects.of(&topic);
            assert!(subject.len() <= SUBJECT_BYTES_MAX, "{topic:?}");
            let name = subject.strip_prefix("a.b.t.").unwrap();
            let is_harmless = |c: char| c.is_ascii_alphanumeric() || "-_%#".contains(c);
            assert!(!name.is_empty() && name.chars().all(is_harmless), "{topic:?}: {subject}");
            assert_ne!(subject, subjects.control());
            if let Some(other) = topic_of.insert(subject, topic.clone()) {
                assert_eq!(other, topic);
            }
        }
    }

    #[test]
    fn prefixes_are_words() {
        for prefix in ["longwire", "prod.chat", "a-b_c.1"] {
            assert!(Subjects::new(prefix).is_ok(), "{prefix}");
        }
        let long = "a".repeat(PREFIX_BYTES_MAX + 1);
        for prefix in ["", ".", "a.", ".a", "a..b", "*", "a.>", "$SYS", "_INBOX", "a b", &long] {
            assert!(Subjects::new(prefix).is_err(), "{prefix}");
        }
    }
}
