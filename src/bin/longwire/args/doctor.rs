//! Flags of `longwire doctor`.

use clap::builder::TypedValueParser;

/// What follows the list of flags.
pub(super) const HELP: &str = "\
Numbers of connections take K and M (of 1000): 50K, 1M. Run it as the user, and in the container or service, that the server will run in: limits belong to these.

Try it:  longwire doctor
         longwire doctor --connections 1M --tls
         and in a script: longwire doctor --connections 50K --json || exit 1

It changes nothing. A connection is taken to be idle, as most of very many are; its memory is what was measured of the process and of the kernel, and a tenth of the memory is left free.
Exit codes: 0 they fit, or no number was asked for; 1 they do not, and it says what to do; 2 it could not run, one line says why.";

/// Flags of `longwire doctor`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct DoctorArgs {
    /// Connections that are to fit, such as 20000, 50K or 1M [default: as many as there is memory for]
    #[arg(long, value_name = "N", value_parser = count)]
    pub(crate) connections: Option<u64>,
    /// Judge connections over TLS, which take more memory.
    #[arg(long)]
    pub(crate) tls: bool,
    /// Judge a server that is started with --direct-descriptors.
    #[arg(long)]
    pub(crate) direct_descriptors: bool,
    /// Judge a server that is started with so many workers, from 1 to 1024 [default: one for each core]
    #[arg(long, value_name = "N", value_parser = workers())]
    pub(crate) workers: Option<u64>,
    /// Say it in JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

fn workers() -> impl TypedValueParser<Value = u64> {
    clap::value_parser!(u64).range(1..=1024)
}

fn count(text: &str) -> Result<u64, String> {
    let advice = "give a whole number from 1 on, or K, M of 1000: 20000, 50K, 1M";
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = match unit {
        "" => 1,
        "K" | "k" => 1_000,
        "M" => 1_000_000,
        _ => return Err(advice.to_owned()),
    };
    let number: u64 = number.parse().map_err(|_| advice)?;
    // More than there are addresses and ports for would only make sums overflow.
    let count = number.checked_mul(unit).filter(|count| *count <= u64::from(u32::MAX));
    match count.ok_or("too many: a server holds 4,294,967,295 at most")? {
        0 => Err(advice.to_owned()),
        count => Ok(count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_counted_in_powers_of_1000() {
        for (text, value) in [("1", 1), ("20000", 20_000), ("50K", 50_000), ("1M", 1_000_000)] {
            assert_eq!(count(text), Ok(value));
        }
        for wrong in ["", "0", "0K", "K", "1G", "1.5M", "-1", "+1", "1 M", "5000M"] {
            assert!(count(wrong).is_err(), "{wrong:?}");
        }
        assert!(count("99999999999999999999").is_err());
        assert!(count("18446744073709551615M").is_err());
    }
}
