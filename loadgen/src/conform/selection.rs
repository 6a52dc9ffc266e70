//! Which cases to run: `1.*,6.4.2,20`.

use std::str::FromStr;

use super::case::CaseId;

/// Patterns of case numbers. None at all selects every case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Selection(Vec<Vec<u16>>);

impl Selection {
    pub(crate) fn contains(&self, id: &CaseId) -> bool {
        self.0.is_empty() || self.0.iter().any(|prefix| id.0.starts_with(prefix))
    }
}

impl FromStr for Selection {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let patterns = text.split(',').map(str::trim).filter(|pattern| !pattern.is_empty());
        let prefixes = patterns.map(|pattern| {
            let numbers = pattern.strip_suffix(".*").unwrap_or(pattern);
            let parts: Result<Vec<u16>, _> = numbers.split('.').map(str::parse).collect();
            match (numbers, parts) {
                ("*", _) => Ok(Vec::new()),
                (_, Ok(parts)) => Ok(parts),
                (_, Err(_)) => {
                    Err(format!("`{pattern}` is no case number; write 6, 6.4.* or 6.4.2"))
                }
            }
        });
        prefixes.collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selects(text: &str, id: &[u16]) -> bool {
        text.parse::<Selection>().unwrap().contains(&CaseId(id.to_vec()))
    }

    #[test]
    fn pattern_selects_its_number_and_what_is_below() {
        assert!(selects("1.*,6.4.2", &[1, 2, 3]) && selects("1.*, 6.4.2", &[6, 4, 2]));
        assert!(!selects("1.*,6.4.2", &[6, 4, 1]) && !selects("1.*", &[10, 1, 1]));
        assert!(selects("6", &[6, 4, 2]) && selects("6.4", &[6, 4, 2]) && selects("*", &[9, 9]));
        assert!(selects("", &[3, 1]) && !selects("6.4.2", &[6, 4, 20]));
    }

    #[test]
    fn what_is_no_number_is_refused_with_the_right_form() {
        for text in ["x", "1.x", "6.*.2", "1..2", "-1", "99999"] {
            let error = text.parse::<Selection>().unwrap_err();
            assert!(error.contains(text) && error.contains("write 6, 6.4.* or 6.4.2"), "{error}");
        }
    }
}
