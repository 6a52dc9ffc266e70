//! The known word that somebody meant who wrote another.

/// The one that takes the fewest changed, added or dropped letters; None only if none is known.
pub(super) fn nearest<'a>(
    written: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    known.into_iter().min_by_key(|word| distance(written, word))
}

/// Levenshtein's.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (index, letter) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for (column, other) in to.iter().enumerate() {
            let changed = diagonal + usize::from(letter != *other);
            diagonal = row[column + 1];
            row[column + 1] = changed.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_letters_changed_added_and_dropped() {
        for (from, to, count) in
            [("", "", 0), ("", "abc", 3), ("abc", "", 3), ("kitten", "sitting", 3), ("ä", "a", 1)]
        {
            assert_eq!(distance(from, to), count, "{from} {to}");
        }
    }

    #[test]
    fn nearest_is_the_word_that_was_meant() {
        let known = ["name", "command", "cores", "path"];
        assert_eq!(nearest("comand", known), Some("command"));
        assert_eq!(nearest("core", known), Some("cores"));
        assert_eq!(nearest("x", []), None);
    }
}
