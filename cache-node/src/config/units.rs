//! Sizes, shares and durations in the notations of Kubernetes and Go, and back.

use std::time::Duration;

use super::Amount;
use super::error::quote;

const KIB: u64 = 1 << 10;
const SIZE_UNITS: [(&str, u64); 8] = [
    ("Ti", KIB * KIB * KIB * KIB),
    ("Gi", KIB * KIB * KIB),
    ("Mi", KIB * KIB),
    ("Ki", KIB),
    ("T", 1_000_000_000_000),
    ("G", 1_000_000_000),
    ("M", 1_000_000),
    ("k", 1_000),
];
/// In descending order, as they are written.
const DURATION_UNITS_MS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
/// Ten years: far beyond any use, and far from any overflow.
const DURATION_MAX: Duration = Duration::from_hours(10 * 366 * 24);

/// Bytes of a Kubernetes quantity: `1048576`, `500k`, `1.5Gi`.
pub(super) fn parse_size(text: &str) -> Result<u64, String> {
    let (number, unit) = SIZE_UNITS
        .iter()
        .find_map(|&(suffix, bytes)| text.strip_suffix(suffix).map(|number| (number, bytes)))
        .unwrap_or((text, 1));
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    if !is_number(whole) || !is_number(fraction) {
        return Err(format!(
            "{} is not a size; write a number of bytes, alone or with k, M, G, T, Ki, Mi, Gi or Ti, such as 1Mi",
            quote(text)
        ));
    }
    let too_large = || format!("{} is too large", quote(text));
    let whole: u64 = whole.parse().map_err(|_| too_large())?;
    let fraction = fraction.trim_end_matches('0');
    let mut bytes = whole.checked_mul(unit).ok_or_else(too_large)?;
    if !fraction.is_empty() {
        let part = fraction_of(unit, fraction)
            .ok_or_else(|| format!("{} is not a whole number of bytes", quote(text)))?;
        bytes = bytes.checked_add(part).ok_or_else(too_large)?;
    }
    Ok(bytes)
}

/// `0.FRACTION * unit`, if that is whole.
fn fraction_of(unit: u64, fraction: &str) -> Option<u64> {
    let scale = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let product = fraction.parse::<u128>().ok()?.checked_mul(u128::from(unit))?;
    (product % scale == 0).then_some(product / scale)?.try_into().ok()
}

/// The shortest exact notation with a binary suffix.
pub(super) fn format_size(bytes: u64) -> String {
    SIZE_UNITS
        .iter()
        .filter(|(suffix, _)| suffix.ends_with('i'))
        .find(|&&(_, unit)| bytes > 0 && bytes.is_multiple_of(unit))
        .map_or_else(
            || bytes.to_string(),
            |(suffix, unit)| format!("{}{suffix}", bytes / unit),
        )
}

/// Bytes as [`parse_size`] reads them, or a percentage: `25%`.
pub(super) fn parse_amount(text: &str) -> Result<Amount, String> {
    let Some(number) = text.strip_suffix('%') else {
        return parse_size(text).map(Amount::Bytes);
    };
    let is_number = number.bytes().all(|b| b.is_ascii_digit());
    match number.parse() {
        Ok(percent @ 0..=100) if is_number => Ok(Amount::Percent(percent)),
        _ => Err(format!(
            "{} is not a percentage; write a whole number up to 100%",
            quote(text)
        )),
    }
}

/// The notation that [`parse_amount`] reads.
pub(super) fn format_amount(amount: Amount) -> String {
    match amount {
        Amount::Bytes(bytes) => format_size(bytes),
        Amount::Percent(percent) => format!("{percent}%"),
    }
}

/// A duration such as `5m`, `1h30m`, `500ms` or `0s`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let malformed = || {
        format!(
            "{} is not a duration; write whole h, m, s or ms, such as 5m or 1h30m",
            quote(text)
        )
    };
    let too_long = || format!("{} is too long; at most ten years are possible", quote(text));
    if text.is_empty() {
        return Err(malformed());
    }
    let mut rest = text;
    let mut total_ms: u64 = 0;
    while !rest.is_empty() {
        let unit_start = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(malformed)?;
        let (number, tail) = rest.split_at(unit_start);
        let unit_end = tail
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(tail.len());
        let (suffix, tail) = tail.split_at(unit_end);
        let &(_, unit_ms) = DURATION_UNITS_MS
            .iter()
            .find(|(name, _)| *name == suffix)
            .ok_or_else(malformed)?;
        if number.is_empty() {
            return Err(malformed());
        }
        let part_ms = number
            .parse::<u64>()
            .ok()
            .and_then(|n| n.checked_mul(unit_ms))
            .ok_or_else(too_long)?;
        total_ms = total_ms.checked_add(part_ms).ok_or_else(too_long)?;
        rest = tail;
    }
    let duration = Duration::from_millis(total_ms);
    if duration > DURATION_MAX {
        Err(too_long())
    } else {
        Ok(duration)
    }
}

/// The notation that [`parse_duration`] reads.
pub(super) fn format_duration(duration: Duration) -> String {
    let mut rest_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (suffix, unit_ms) in DURATION_UNITS_MS {
        if rest_ms >= unit_ms {
            text.push_str(&format!("{}{suffix}", rest_ms / unit_ms));
            rest_ms %= unit_ms;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_kubernetes_sizes() {
        for (text, bytes) in [
            ("0", 0),
            ("1048576", 1 << 20),
            ("1k", 1_000),
            ("2M", 2_000_000),
            ("3G", 3_000_000_000),
            ("4T", 4_000_000_000_000),
            ("1Ki", 1 << 10),
            ("1Mi", 1 << 20),
            ("1.5Gi", 3 << 29),
            ("0.5Ti", 1 << 39),
            ("1.0", 1),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_whole_number_of_bytes() {
        for text in [
            "", "-1", "+1", "1.5", "0.3Ki", "1m", "1e3", "1 Mi", "1mi", "1K", "Mi", ".5Gi", "1.Gi", "1.2.3k",
        ] {
            assert!(parse_size(text).is_err(), "{text}");
        }
        assert_eq!(
            parse_size("99999999Ti"),
            Err("\"99999999Ti\" is too large".to_owned())
        );
    }

    #[test]
    fn reads_shares_and_sizes() {
        for (text, amount) in [
            ("25%", Amount::Percent(25)),
            ("0%", Amount::Percent(0)),
            ("100%", Amount::Percent(100)),
            ("05%", Amount::Percent(5)),
            ("50Gi", Amount::Bytes(50 << 30)),
            ("25", Amount::Bytes(25)),
        ] {
            assert_eq!(parse_amount(text), Ok(amount), "{text}");
        }
        for text in [
            "%", "101%", "+5%", "-5%", "2.5%", "25 %", "25%%", "25Gi%", "1000%", "", "all",
        ] {
            assert!(parse_amount(text).is_err(), "{text}");
        }
    }

    #[test]
    fn reads_durations() {
        for (text, ms) in [
            ("0s", 0),
            ("500ms", 500),
            ("90s", 90_000),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("24h", 86_400_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in [
            "",
            "5",
            "m",
            "5 m",
            "-5m",
            "1.5h",
            "5d",
            "5mm",
            "99999999h",
            "99999999999999999999s",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn writes_what_it_reads(bytes: u64, percent in 0_u8..=100, ms in 0_u64..1 << 38) {
            prop_assert_eq!(parse_size(&format_size(bytes)), Ok(bytes));
            for amount in [Amount::Bytes(bytes), Amount::Percent(percent)] {
                prop_assert_eq!(parse_amount(&format_amount(amount)), Ok(amount));
            }
            let duration = Duration::from_millis(ms);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }

        #[test]
        fn never_panics(text: String, digits in "[0-9]{0,60}\\.?[0-9]{0,60}(h|m|ms|Ti|k|%)?") {
            for text in [text, digits] {
                let _ = parse_amount(&text);
                let _ = parse_duration(&text);
            }
        }
    }
}
