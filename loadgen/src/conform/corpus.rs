//! What the compression cases send: five kinds of data, from what shrinks well to what does not shrink
//! at all, made from a seed, so that a failure can be repeated and nothing need be shipped.

use std::sync::{Arc, LazyLock};

use super::frame::Keys;

const BYTES: usize = 256 << 10;
const WORDS: [&str; 24] = [
    "und",
    "der",
    "Geist",
    "Nacht",
    "w\u{fc}rde",
    "Stern",
    "Feuer",
    "immer",
    "K\u{f6}nig",
    "Wasser",
    "nicht",
    "Herz",
    "gro\u{df}",
    "Stille",
    "Tag",
    "Licht",
    "Erde",
    "Weg",
    "fern",
    "Wort",
    "sah",
    "Garten",
    "sprach",
    "Zeit",
];

/// A kind of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Records of JSON, as text.
    Json,
    /// A picture in grey, as binary.
    Picture,
    /// Sentences, as binary.
    Prose,
    /// A page of HTML, as text.
    Html,
    /// What is compressed already, as binary.
    Random,
}

impl Kind {
    pub(crate) const ALL: [Self; 5] =
        [Self::Json, Self::Picture, Self::Prose, Self::Html, Self::Random];

    pub(crate) fn is_binary(self) -> bool {
        match self {
            Self::Json | Self::Html => false,
            Self::Picture | Self::Prose | Self::Random => true,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Json => "JSON",
            Self::Picture => "a picture",
            Self::Prose => "prose",
            Self::Html => "HTML",
            Self::Random => "random bytes",
        }
    }

    /// The data of this kind, made when it is first asked for.
    pub(crate) fn corpus(self) -> Arc<Corpus> {
        static MADE: LazyLock<[Arc<Corpus>; 5]> =
            LazyLock::new(|| Kind::ALL.map(|kind| Arc::new(Corpus::new(kind))));
        Arc::clone(&MADE[self as usize])
    }
}

/// Data that messages are cut from, one behind the other, and again from the start.
#[derive(Debug)]
pub(crate) struct Corpus {
    bytes: Vec<u8>,
    /// Where each character begins, and the end. Nothing for binary data.
    starts: Vec<usize>,
}

impl Corpus {
    fn new(kind: Kind) -> Self {
        let mut dice = Dice(Keys::new(kind as u32 + 12));
        let mut bytes = Vec::with_capacity(BYTES + 256);
        while bytes.len() < BYTES {
            match kind {
                Kind::Json => json_record(&mut dice, &mut bytes),
                Kind::Picture => picture_row(&mut dice, &mut bytes),
                Kind::Prose => sentence(&mut dice, &mut bytes),
                Kind::Html => html_item(&mut dice, &mut bytes),
                Kind::Random => bytes.extend(dice.0.next_key()),
            }
        }
        let text = if kind.is_binary() { "" } else { std::str::from_utf8(&bytes).unwrap_or("") };
        let mut starts: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
        if !text.is_empty() {
            starts.push(text.len());
        }
        Self { bytes, starts }
    }

    fn len(&self) -> usize {
        if self.starts.is_empty() { self.bytes.len() } else { self.starts.len() - 1 }
    }

    fn slice(&self, from: usize, to: usize) -> &[u8] {
        if self.starts.is_empty() {
            &self.bytes[from..to]
        } else {
            &self.bytes[self.starts[from]..self.starts[to]]
        }
    }

    /// Message number `index` of those with `len` bytes, or characters if it is text.
    pub(crate) fn message(&self, index: usize, len: usize) -> Vec<u8> {
        let start = (index * len) % self.len();
        let end = start + len;
        if end <= self.len() {
            return self.slice(start, end).to_vec();
        }
        [self.slice(start, self.len()), self.slice(0, end - self.len())].concat()
    }
}

/// Small numbers by chance, the same in each run.
struct Dice(Keys);

impl Dice {
    fn below(&mut self, bound: u32) -> u32 {
        u32::from_be_bytes(self.0.next_key()) % bound
    }

    fn word(&mut self) -> &'static str {
        WORDS[u32::from_be_bytes(self.0.next_key()) as usize % WORDS.len()]
    }
}

fn json_record(dice: &mut Dice, out: &mut Vec<u8>) {
    let text = format!(
        "{{\"id\":{},\"name\":\"{} {}\",\"price\":{}.{:02},\"active\":{},\"tags\":[\"{}\",\"{}\"],\
         \"at\":\"2024-{:02}-{:02}T{:02}:{:02}:00Z\"}},\n",
        dice.below(1_000_000),
        dice.word(),
        dice.word(),
        dice.below(1000),
        dice.below(100),
        dice.below(2) == 0,
        dice.word(),
        dice.word(),
        dice.below(12) + 1,
        dice.below(28) + 1,
        dice.below(24),
        dice.below(60),
    );
    out.extend_from_slice(text.as_bytes());
}

/// 512 points of a slope with some noise on it.
fn picture_row(dice: &mut Dice, out: &mut Vec<u8>) {
    let row = u32::try_from(out.len() / 512).unwrap_or_default();
    for column in 0..512_u32 {
        let slope = (row + column) / 4 + dice.below(4);
        out.push(slope.to_le_bytes()[0]);
    }
}

fn sentence(dice: &mut Dice, out: &mut Vec<u8>) {
    for _ in 0..dice.below(12) + 3 {
        out.extend_from_slice(dice.word().as_bytes());
        out.push(b' ');
    }
    out.extend_from_slice(b".\n");
}

fn html_item(dice: &mut Dice, out: &mut Vec<u8>) {
    let number = dice.below(100_000);
    let text = format!(
        "<li class=\"item {}\"><a href=\"/page/{number}?from={}\">{} {}</a> \
         <span>{}\u{a0}\u{20ac}</span></li>\n",
        if number.is_multiple_of(2) { "even" } else { "odd" },
        dice.below(50),
        dice.word(),
        dice.word(),
        dice.below(1000),
    );
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conform::deflate::deflated;

    #[test]
    fn messages_have_their_length_and_text_is_cut_between_characters() {
        for kind in Kind::ALL {
            let corpus = kind.corpus();
            for (index, len) in [(0, 16), (3, 1024), (1, 131_072), (17, 131_072), (999, 65_536)] {
                let message = corpus.message(index, len);
                if kind.is_binary() {
                    assert_eq!(message.len(), len, "{kind:?}");
                } else {
                    let text = std::str::from_utf8(&message).unwrap();
                    assert_eq!(text.chars().count(), len, "{kind:?}");
                }
            }
            assert_ne!(corpus.message(0, 64), corpus.message(1, 64));
        }
    }

    #[test]
    fn message_goes_on_at_the_start_where_the_data_ends() {
        let corpus = Kind::Json.corpus();
        let whole = corpus.slice(0, corpus.len());
        let count = corpus.len() / 1000;
        let message = corpus.message(count, 1000);
        let tail = corpus.slice(count * 1000, corpus.len());
        assert!(tail.len() < message.len() && message.starts_with(tail));
        assert!(whole.starts_with(&message[tail.len()..]));
    }

    #[test]
    fn kinds_shrink_as_differently_as_they_should() {
        let percent = |kind: Kind| {
            let message = kind.corpus().message(0, 65_536);
            deflated(&message).len() * 100 / message.len()
        };
        assert!((10..50).contains(&percent(Kind::Json)), "{}", percent(Kind::Json));
        assert!((10..50).contains(&percent(Kind::Prose)), "{}", percent(Kind::Prose));
        assert!((10..50).contains(&percent(Kind::Html)), "{}", percent(Kind::Html));
        assert!((20..95).contains(&percent(Kind::Picture)), "{}", percent(Kind::Picture));
        assert!((100..102).contains(&percent(Kind::Random)), "{}", percent(Kind::Random));
    }
}
