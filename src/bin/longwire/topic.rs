//! The topics of `longwire serve`: which a path names, who may publish there, how slow readers fare.
//!
//! Both ports ask here, so that no name is read in two ways.

use std::fmt;

use longwire::{Builder, Error, InvalidTopic, SlowReaders, TopicPolicy};

use crate::args::{PublishArg, TopicArgs};

/// What stands in front of the name in a path.
const FOLDER: &str = "/topics/";

/// What the flags say of topics.
#[derive(Clone, Debug)]
pub(crate) struct TopicRules {
    publish: Publish,
    /// By prefix, the longest first.
    slow_readers: Vec<(String, SlowReaders)>,
    /// The same.
    histories: Vec<(String, usize)>,
    topic_bytes_max: usize,
}

#[derive(Clone, Debug)]
enum Publish {
    Any,
    Prefixes(Vec<String>),
}

/// Why a path names no topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadName {
    /// A percent sign without two hexadecimal digits.
    Percent,
    NotUtf8,
    Invalid(InvalidTopic),
}

impl fmt::Display for BadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Percent => f.write_str("after a percent sign come two hexadecimal digits"),
            Self::NotUtf8 => f.write_str("the name of a topic is UTF-8"),
            Self::Invalid(error) => error.fmt(f),
        }
    }
}

impl TopicRules {
    /// Checks that the flags do not contradict each other.
    pub(crate) fn new(args: &TopicArgs) -> Result<Self, Error> {
        let latest = args.latest.iter().map(|prefix| (prefix.clone(), SlowReaders::Latest));
        let drop_oldest = args
            .drop_oldest
            .iter()
            .map(|topics| (topics.prefix.clone(), SlowReaders::DropOldest(topics.count)));
        let histories = args.history.iter().map(|topics| (topics.prefix.clone(), topics.count));
        Ok(Self {
            publish: publish(&args.publish)?,
            slow_readers: longest_first(latest.chain(drop_oldest), "--latest or --drop-oldest")?,
            histories: longest_first(histories, "--history")?,
            topic_bytes_max: args.topic_bytes_max,
        })
    }

    /// Sets a server up for these topics.
    pub(crate) fn apply(&self, args: &TopicArgs, builder: Builder) -> Builder {
        let rules = self.clone();
        builder
            .topic_policy(move |name| rules.policy(name))
            .topics_max(args.topics_max)
            .subscriptions_max(args.subscriptions_max)
            .topic_bytes_max(args.topic_bytes_max)
            .inbox_orders_max(args.inbox_orders_max)
            .inbox_bytes_max(args.inbox_bytes_max)
    }

    /// The topic that a path names: `None` if it is no path of topics. Percent signs are decoded
    /// once; slashes belong to the name.
    pub(crate) fn topic_at(&self, path: &str) -> Option<Result<String, BadName>> {
        let name = path.strip_prefix(FOLDER)?;
        Some(decode(name).and_then(|name| match InvalidTopic::of(&name, self.topic_bytes_max) {
            Some(error) => Err(BadName::Invalid(error)),
            None => Ok(name),
        }))
    }

    /// Whether WebSocket clients may publish to a topic.
    pub(crate) fn may_publish(&self, name: &str) -> bool {
        match &self.publish {
            Publish::Any => true,
            Publish::Prefixes(prefixes) => prefixes.iter().any(|prefix| name.starts_with(prefix)),
        }
    }

    fn policy(&self, name: &str) -> TopicPolicy {
        let slow_readers = find(&self.slow_readers, name).unwrap_or_default();
        let history = find(&self.histories, name).unwrap_or_default();
        TopicPolicy::new().slow_readers(slow_readers).history(history)
    }
}

fn publish(args: &[PublishArg]) -> Result<Publish, Error> {
    let prefix = |arg: &PublishArg| match arg {
        PublishArg::Prefix(prefix) => Some(prefix.clone()),
        PublishArg::Any | PublishArg::None => None,
    };
    match args {
        [PublishArg::Any] => Ok(Publish::Any),
        [PublishArg::None] => Ok(Publish::Prefixes(Vec::new())),
        several => several
            .iter()
            .map(prefix)
            .collect::<Option<_>>()
            .map(Publish::Prefixes)
            .ok_or_else(|| {
                Error::Misuse("--publish is any, or none, or prefixes: not several of these".into())
            }),
    }
}

fn longest_first<T>(
    of_prefixes: impl Iterator<Item = (String, T)>,
    flags: &str,
) -> Result<Vec<(String, T)>, Error> {
    let mut sorted: Vec<(String, T)> = of_prefixes.collect();
    sorted.sort_by(|(a, _), (b, _)| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
    match sorted.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        Some(pair) => {
            Err(Error::Misuse(format!("give `{}` to {flags} once, not twice", pair[0].0)))
        }
        None => Ok(sorted),
    }
}

fn find<T: Copy>(of_prefixes: &[(String, T)], name: &str) -> Option<T> {
    of_prefixes.iter().find(|(prefix, _)| name.starts_with(prefix)).map(|(_, found)| *found)
}

/// Decodes the percent signs of a path (RFC 3986 §2.1).
pub(crate) fn decode(text: &str) -> Result<String, BadName> {
    let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let (high, low) = (digit(rest.next()), digit(rest.next()));
        let value = high.zip(low).and_then(|(high, low)| u8::try_from(high << 4 | low).ok());
        bytes.push(value.ok_or(BadName::Percent)?);
    }
    String::from_utf8(bytes).map_err(|_| BadName::NotUtf8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(change: impl FnOnce(&mut TopicArgs)) -> Result<TopicRules, Error> {
        let mut args = TopicArgs {
            publish: vec![PublishArg::Any],
            latest: Vec::new(),
            drop_oldest: Vec::new(),
            history: Vec::new(),
            topics_max: 1,
            subscriptions_max: 1,
            topic_bytes_max: 16,
            inbox_orders_max: 1,
            inbox_bytes_max: 1,
        };
        change(&mut args);
        TopicRules::new(&args)
    }

    #[test]
    fn ps03_path_names_a_topic_or_says_why_not() {
        let rules = rules(|_| {}).unwrap();
        let invalid = |error| Some(Err(BadName::Invalid(error)));
        for (path, topic) in [
            ("/topics/lobby", Some(Ok("lobby".to_owned()))),
            ("/topics/prices/EUR", Some(Ok("prices/EUR".to_owned()))),
            ("/topics/a%2fb", Some(Ok("a/b".to_owned()))),
            ("/topics/a%252fb", Some(Ok("a%2fb".to_owned()))),
            ("/topics/r%C3%A4ume", Some(Ok("r\u{e4}ume".to_owned()))),
            ("/topics/a+b", Some(Ok("a+b".to_owned()))),
            ("/topics/", invalid(InvalidTopic::Empty)),
            ("/topics/a%20b", invalid(InvalidTopic::Blank)),
            ("/topics/a%00", invalid(InvalidTopic::Blank)),
            ("/topics/a%0d%0ab", invalid(InvalidTopic::Blank)),
            ("/topics/%2a", invalid(InvalidTopic::Wildcard)),
            ("/topics/12345678901234567", invalid(InvalidTopic::TooLong)),
            ("/topics/%", Some(Err(BadName::Percent))),
            ("/topics/a%2", Some(Err(BadName::Percent))),
            ("/topics/%zz", Some(Err(BadName::Percent))),
            ("/topics/%+1", Some(Err(BadName::Percent))),
            ("/topics/%ff", Some(Err(BadName::NotUtf8))),
            ("/topics", None),
            ("/Topics/a", None),
            ("/%74opics/a", None),
            ("//topics/a", None),
        ] {
            assert_eq!(rules.topic_at(path), topic, "{path}");
        }
    }

    #[test]
    fn longest_prefix_decides() {
        let count = |text: &str| text.parse().unwrap();
        let rules = rules(|args| {
            args.latest = vec!["prices/".to_owned()];
            args.drop_oldest = vec![count("=8"), count("prices/slow/=3")];
            args.history = vec![count("prices/=1")];
        })
        .unwrap();
        for (name, slow_readers, history) in [
            ("lobby", SlowReaders::DropOldest(8), 0),
            ("prices/EUR", SlowReaders::Latest, 1),
            ("prices/slow/EUR", SlowReaders::DropOldest(3), 1),
        ] {
            let expected = TopicPolicy::new().slow_readers(slow_readers).history(history);
            assert_eq!(rules.policy(name), expected, "{name}");
        }
    }

    #[test]
    fn ps09_who_may_publish_follows_the_prefix() {
        let prefix = |text: &str| PublishArg::Prefix(text.to_owned());
        for (publish, allowed, refused) in [
            (vec![PublishArg::Any], &["a", "b"][..], &[][..]),
            (vec![PublishArg::None], &[], &["a", "none"]),
            (vec![prefix("a"), prefix("b/")], &["a", "ab", "b/c"], &["b", "c"]),
        ] {
            let rules = rules(|args| args.publish = publish.clone()).unwrap();
            assert!(allowed.iter().all(|name| rules.may_publish(name)), "{publish:?}");
            assert!(!refused.iter().any(|name| rules.may_publish(name)), "{publish:?}");
        }
        let contradiction = rules(|args| args.publish = vec![PublishArg::None, prefix("a")]);
        assert!(contradiction.is_err());
    }

    #[test]
    fn prefix_is_given_once() {
        let twice = rules(|args| {
            args.latest = vec!["a".to_owned()];
            args.drop_oldest = vec!["a=3".parse().unwrap()];
        });
        assert!(twice.is_err());
    }
}
