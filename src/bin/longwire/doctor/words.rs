//! Numbers as people read them.

/// `1000000` as `1,000,000`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes in the largest unit of which there is one, with one decimal.
pub(super) fn bytes(bytes: u64) -> String {
    let (unit, name) = match bytes {
        0..1024 => return format!("{bytes} B"),
        1024..1_048_576 => (1 << 10, "KiB"),
        1_048_576..1_073_741_824 => (1 << 20, "MiB"),
        u64::MAX => return "unlimited".to_owned(),
        _ => (1 << 30, "GiB"),
    };
    // Rounded down: what is said to be there must be there.
    let tenths = u128::from(bytes) * 10 / u128::from(unit as u64);
    format!("{}.{} {name}", tenths / 10, tenths % 10)
}

/// A paragraph in lines of at most `columns`, each behind `indent` but the first.
pub(super) fn wrapped(text: &str, columns: usize, indent: &str) -> String {
    let mut lines = String::new();
    let mut column = 0;
    for word in text.split(' ') {
        let width = word.chars().count();
        if column > 0 && column + 1 + width > columns {
            lines.push('\n');
            lines.push_str(indent);
            column = indent.len();
        } else if column > 0 {
            lines.push(' ');
            column += 1;
        }
        lines.push_str(word);
        column += width;
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn paragraphs_are_wrapped_at_blanks() {
        assert_eq!(wrapped("a bb ccc dddd", 8, "  "), "a bb ccc\n  dddd");
        assert_eq!(wrapped("a bb ccc dddd", 7, "  "), "a bb\n  ccc\n  dddd");
        assert_eq!(wrapped("longer-than-a-line b", 5, ""), "longer-than-a-line\nb");
    }

    #[test]
    fn bytes_are_rounded_down_to_a_tenth() {
        for (number, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            ((1 << 20) - 1, "1023.9 KiB"),
            (23_456_789_012, "21.8 GiB"),
            (u64::MAX, "unlimited"),
        ] {
            assert_eq!(bytes(number), text);
        }
    }
}
