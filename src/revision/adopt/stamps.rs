//! Versions of other tools as stamps of ours: 1 to 20 digits that count as numbers.

use super::{Found, Result, refused};
use crate::revision::order;

/// Digits that `new` will still outdo with its 14.
const WIDEST: usize = 14;

/// Refuses stamps that are none, and two of one number.
pub(super) fn check(found: &[Found]) -> Result<()> {
    for one in found {
        if !(1..=20).contains(&one.stamp.len()) || !one.stamp.bytes().all(|b| b.is_ascii_digit()) {
            let cause = format!("{}: its version {} is not 1 to 20 digits", one.up.file.display(), one.version);
            return Err(refused(cause, "rename a copy of it, and import the folder with the copy"));
        }
    }
    for pair in found.windows(2) {
        if order(&pair[0].stamp) >= order(&pair[1].stamp) {
            let (one, other) = (&pair[0], &pair[1]);
            let cause = format!(
                "{} and {} have the same version {}",
                one.up.file.display(),
                other.up.file.display(),
                other.version
            );
            return Err(refused(cause, "rename one in a copy of the folder, and import that"));
        }
    }
    Ok(())
}

/// Stamps for versions of several numbers (`1.2.10`), in their order: as they are where each has one number, else each
/// number in a place of its own (`10210`), else counted. Whether they were made.
pub(super) fn of_parts(versions: &[Vec<String>]) -> (Vec<String>, bool) {
    if versions.iter().all(|parts| parts.len() == 1) {
        return (versions.iter().map(|parts| parts.concat()).collect(), false);
    }
    let digits = |part: &String| part.trim_start_matches('0').len().max(1);
    let places = versions.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> =
        (0..places).map(|i| versions.iter().filter_map(|parts| parts.get(i)).map(digits).max().unwrap_or(1)).collect();
    if widths.iter().sum::<usize>() > WIDEST {
        return (counted(versions.len()), true);
    }
    let stamp = |parts: &Vec<String>| -> String {
        let part = |i: usize| parts.get(i).map_or("", |part| part.trim_start_matches('0'));
        widths.iter().enumerate().map(|(i, width)| format!("{:0>width$}", part(i))).collect()
    };
    (versions.iter().map(stamp).collect(), true)
}

/// `0001`, `0002`, … for so many.
pub(super) fn counted(many: usize) -> Vec<String> {
    let width = many.to_string().len().max(4);
    (1..=many).map(|n| format!("{n:0>width$}")).collect()
}

/// Stamps from moments written in any way (`2024-01-02 03:04:05.6`), each later than the one before it: a moment that
/// is not is a second after that.
pub(super) fn of_moments(moments: &[Option<String>]) -> Vec<String> {
    let mut last: Option<jiff::civil::DateTime> = None;
    let mut stamps = Vec::new();
    for moment in moments {
        let said = moment.as_deref().and_then(civil);
        let next = last.map(|last| last.saturating_add(jiff::Span::new().seconds(1)));
        let this = match (said, next) {
            (Some(said), Some(next)) => said.max(next),
            (Some(said), None) => said,
            (None, Some(next)) => next,
            (None, None) => jiff::civil::date(2000, 1, 1).at(0, 0, 0, 0),
        };
        stamps.push(this.strftime("%Y%m%d%H%M%S").to_string());
        last = Some(this);
    }
    stamps
}

/// A date, and a time if there is one, to the second.
fn civil(text: &str) -> Option<jiff::civil::DateTime> {
    let numbers: Vec<i16> =
        text.split(|c: char| !c.is_ascii_digit()).filter(|n| !n.is_empty()).map_while(|n| n.parse().ok()).collect();
    let at = |i: usize| i8::try_from(numbers.get(i).copied().unwrap_or(0)).ok();
    let date = jiff::civil::Date::new(*numbers.first()?, at(1)?, at(2)?).ok()?;
    let time = jiff::civil::Time::new(at(3)?, at(4)?, at(5)?, 0).unwrap_or_default();
    Some(date.to_datetime(time))
}

/// What follows the stamp in a file's name: nothing that a file name or a suffix of ours is made of.
pub(super) fn slug(text: &str) -> String {
    let kept: String = text.chars().map(|c| if c.is_alphanumeric() || c == '-' { c } else { '_' }).collect();
    match kept.trim_matches('_') {
        "" => "revision".to_owned(),
        kept => kept.to_owned(),
    }
}

/// A slug in words.
pub(super) fn title(slug: &str) -> String {
    slug.replace('_', " ").split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_numbers_keep_their_order() {
        let parts = |text: &str| text.split('.').map(str::to_owned).collect::<Vec<_>>();
        let all = |texts: &[&str]| of_parts(&texts.iter().map(|t| parts(t)).collect::<Vec<_>>());
        assert_eq!(all(&["1", "002", "10"]), (vec!["1".into(), "002".into(), "10".into()], false));
        assert_eq!(all(&["1", "1.02", "1.10", "2"]).0, ["100", "102", "110", "200"]);
        let wide = all(&["20240101120000", "20240101120000.1"]);
        assert_eq!(wide, (vec!["0001".into(), "0002".into()], true));
    }

    #[test]
    fn moments_only_rise() {
        let moments =
            ["2024-05-06 07:08:09.123456", "2024-05-06 07:08:09", "2023-01-01", "?", "2024-05-06T23:00:00+02:00"];
        let moments: Vec<_> = moments.iter().map(|m| Some((*m).to_owned())).collect();
        let wanted = ["20240506070809", "20240506070810", "20240506070811", "20240506070812", "20240506230000"];
        assert_eq!(of_moments(&moments), wanted);
        assert_eq!(of_moments(&[None, None]), ["20000101000000", "20000101000001"]);
    }
}
