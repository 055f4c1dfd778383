//! Figures as text: how they stand in documents, and when two of them differ.

/// A number of instructions, lines or the like: `1,980`; `23.6` if it is small and no whole
/// number.
pub(crate) fn count(value: f64) -> String {
    if value < 100.0 && value.fract().abs() >= 0.05 {
        return format!("{value:.1}");
    }
    let digits = format!("{:.0}", value.round());
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// How many times, with at least two significant digits: `0.037`, `0.80`, `8.3`, `25`.
pub(crate) fn ratio(value: f64) -> String {
    if value >= 10.0 {
        return count(value.round());
    }
    let before = if value > 0.0 { value.log10().floor() as i32 } else { 0 };
    format!("{value:.*}", (1 - before).clamp(1, 9) as usize)
}

/// In millions: `9.7`.
pub(crate) fn millions(value: f64) -> String {
    format!("{:.1}", value / 1e6)
}

/// Whether a goal is met, in a word.
pub(crate) fn verdict(met: bool) -> String {
    if met { "met" } else { "missed" }.to_owned()
}

/// Whether two figures are further apart than `tolerance`, a share of the first; two that are
/// no numbers differ if they are not the same.
pub(crate) fn differ(stated: &str, now: &str, tolerance: f64) -> bool {
    let number = |text: &str| text.replace(',', "").parse::<f64>().ok();
    match (number(stated), number(now)) {
        (Some(stated), Some(now)) => (stated - now).abs() > tolerance * stated.abs(),
        _ => stated != now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_people_write_them() {
        for (value, text) in [
            (0.0, "0"),
            (23.59, "23.6"),
            (72.0, "72"),
            (1980.4, "1,980"),
            (5272.5, "5,273"),
            (999.6, "1,000"),
            (1_150_135.0, "1,150,135"),
        ] {
            assert_eq!(count(value), text);
        }
        assert_eq!([ratio(4.26), ratio(53.7), ratio(9.99)], ["4.3", "54", "10.0"]);
        assert_eq!([0.037, 0.8, 0.0, 0.1, 1.0].map(ratio), ["0.037", "0.80", "0.0", "0.10", "1.0"]);
        assert_eq!(millions(9_712_345.0), "9.7");
    }

    #[test]
    fn what_differs_is_out_of_tolerance() {
        assert!(!differ("1,980", "2,050", 0.05) && differ("7.5", "9.7", 0.05));
        assert!(differ("9,576", "9,577", 0.0) && !differ("9,576", "9576", 0.0));
        assert!(differ("met", "missed", 1.0) && !differ("met", "met", 0.0));
    }
}
