//! Keys that become others, by themselves or by a pair that is kept.

use sha2::{Digest as _, Sha256};

use super::convert;
use crate::plan::{Codec, KeyForm, KeyMap};
use crate::value::Value;

/// The target key of a source key.
pub(super) fn up(form: &KeyForm, map: &KeyMap, source: &Value<'_>) -> Result<Value<'static>, String> {
    if let Some(target) = map.target_of(source) {
        return Ok(target);
    }
    let Value::Int(i) = source else { return Err("it is no integer".into()) };
    match form {
        KeyForm::Uuid { space } => Ok(Value::Uuid(uuid(space, *i))),
        KeyForm::Shift { most, .. } if i > most || *i < 0 => {
            Err(format!("there is room for keys from 0 to {most} between those of the other tables"))
        }
        KeyForm::Shift { by, .. } => Ok(Value::Int(i + by)),
    }
}

/// The source key of a target key; an error where none is known yet.
pub(super) fn down(form: &KeyForm, map: &KeyMap, target: &Value<'_>) -> Result<Value<'static>, String> {
    if let Some(source) = map.source_of(target) {
        return Ok(source);
    }
    let of_itself = of_itself(form, target)?;
    // a row that was given this key on its way back has it
    let free = of_itself.map(Value::Int).filter(|source| map.target_of(source).is_none());
    free.ok_or_else(|| "it has no key in the source yet".into())
}

/// The integer from which a target key follows, whatever is paired with it.
fn of_itself(form: &KeyForm, target: &Value<'_>) -> Result<Option<i64>, String> {
    match (form, target) {
        (KeyForm::Uuid { space }, Value::Uuid(u)) => {
            let i = inside(u);
            Ok((uuid(space, i) == *u).then_some(i))
        }
        (KeyForm::Shift { by, most }, Value::Int(t)) => Ok(t.checked_sub(*by).filter(|i| (0..=*most).contains(i))),
        (KeyForm::Uuid { .. }, v) => Err(format!("{} is no uuid", super::convert::class(v))),
        (KeyForm::Shift { .. }, v) => Err(format!("{} is no integer", super::convert::class(v))),
    }
}

/// A source key that leads to this target key although another is paired with it: no two rows may be one.
pub(super) fn rival(form: &KeyForm, map: &KeyMap, target: &Value<'_>) -> Option<Value<'static>> {
    let other = Value::Int(of_itself(form, target).ok().flatten()?);
    let paired = map.source_of(target)?;
    (paired != other && map.target_of(&other).is_none()).then_some(other)
}

/// The UUID that is made up for a text that is none: the same for all columns of a `space`, and no other text's.
pub(super) fn made_up(space: &str, text: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(b"carried");
    hash.update([0]);
    hash.update(space.as_bytes());
    hash.update([0]);
    hash.update(text.as_bytes());
    let mut bytes = [0u8; 16];
    bytes.copy_from_slice(&hash.finalize()[..16]);
    ::uuid::Builder::from_custom_bytes(bytes).into_uuid().to_string()
}

/// Text as a UUID; `values` tells those that are none, and what stands for each.
pub(super) fn carried_up(of: &Codec, values: &[(String, String)], text: &Value<'_>) -> Result<Value<'static>, String> {
    let found = match text {
        Value::Text(t) => values.binary_search_by(|(v, _)| v.as_bytes().cmp(t)).ok(),
        _ => None,
    };
    match found.and_then(|at| ::uuid::Uuid::try_parse(&values[at].1).ok()) {
        Some(made) => Ok(Value::Uuid(*made.as_bytes())),
        None => {
            let target =
                convert::up(of, text).map_err(|why| format!("{why}, nor was it there when the plan was made"))?;
            match stands_for(values, &target) {
                Some(other) => Err(format!("it is the UUID that was made up for '{other}'")),
                None => Ok(target.into_owned()),
            }
        }
    }
}

/// The text of which that UUID was made up, or as all others are spelled.
pub(super) fn carried_down(
    of: &Codec,
    values: &[(String, String)],
    target: &Value<'_>,
) -> Result<Value<'static>, String> {
    match stands_for(values, target) {
        Some(text) => Ok(Value::text(text.to_owned())),
        None => convert::down(of, target),
    }
}

fn stands_for<'v>(values: &'v [(String, String)], target: &Value<'_>) -> Option<&'v str> {
    let Value::Uuid(u) = target else { return None };
    // those are of version 8
    if u[6] >> 4 != 8 {
        return None;
    }
    let text = ::uuid::Uuid::from_bytes(*u).to_string();
    values.iter().find(|(_, made)| *made == text).map(|(v, _)| v.as_str())
}

/// The integer in front, so that UUIDs sort as the integers did, and 58 bits of a hash.
fn uuid(space: &str, i: i64) -> [u8; 16] {
    let mut hash = Sha256::new();
    hash.update(space.as_bytes());
    hash.update([0]);
    hash.update(i.to_be_bytes());
    let digest = hash.finalize();
    // the sign turned, so that negative ones come first
    let n = (i as u64) ^ (1 << 63);
    let mut tag = [0u8; 8];
    tag.copy_from_slice(&digest[..8]);
    let tag = u64::from_be_bytes(tag) >> 6;
    // 48 bits, version, 12 bits; variant, 4 bits, and the hash
    let high = (n >> 16 << 16) | 0x8000 | (n >> 4 & 0x0fff);
    let low = 1 << 63 | (n & 0xf) << 58 | tag;
    (u128::from(high) << 64 | u128::from(low)).to_be_bytes()
}

/// The integer in a UUID that `uuid` made.
fn inside(u: &[u8; 16]) -> i64 {
    let whole = u128::from_be_bytes(*u);
    let (high, low) = ((whole >> 64) as u64, whole as u64);
    let n = (high >> 16 << 16) | (high & 0x0fff) << 4 | (low >> 58 & 0xf);
    (n ^ (1 << 63)) as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Pair;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_key_comes_back_from_its_uuid(i in any::<i64>(), j in any::<i64>()) {
            let (form, map) = (KeyForm::Uuid { space: "users".into() }, KeyMap::of("users"));
            let there = up(&form, &map, &Value::Int(i)).unwrap();
            prop_assert_eq!(down(&form, &map, &there).unwrap(), Value::Int(i));
            let Value::Uuid(u) = there else { unreachable!() };
            let parsed = ::uuid::Uuid::from_bytes(u);
            prop_assert_eq!((parsed.get_version_num(), parsed.get_variant()), (8, ::uuid::Variant::RFC4122));
            prop_assert_eq!(i.cmp(&j), u.cmp(&uuid("users", j)));
            // another table's, or a stranger's, is not taken for one
            let other = KeyForm::Uuid { space: "tags".into() };
            prop_assert!(down(&other, &map, &Value::Uuid(u)).is_err());
        }

        #[test]
        fn a_random_uuid_has_no_source_key(u in any::<u128>()) {
            let (form, map) = (KeyForm::Uuid { space: "users".into() }, KeyMap::of("users"));
            prop_assert!(down(&form, &map, &Value::Uuid(u.to_be_bytes())).is_err());
        }
    }

    #[test]
    fn texts_that_are_no_uuid_come_back_from_those_made_of_them() {
        let of = Codec::Uuid { hyphens: true, upper: false };
        let mut values: Vec<(String, String)> =
            ["system", "", "ABCDEFAB-0000-0000-0000-000000000001"].map(|t| (t.to_owned(), made_up("users", t))).into();
        values.sort();
        let carried = Codec::Carried { of: Box::new(of), values: values.clone() };
        let plain = "abcdefab-0000-0000-0000-000000000001";
        let mut seen = Vec::new();
        for text in values.iter().map(|(t, _)| t.as_str()).chain([plain]) {
            let there = convert::up(&carried, &Value::text(text.to_owned())).unwrap();
            assert_eq!(convert::down(&carried, &there).unwrap(), Value::text(text.to_owned()));
            assert!(!seen.contains(&there));
            seen.push(there);
        }
        assert!(convert::up(&carried, &Value::text("nobody")).unwrap_err().contains("nor was it there"));
        // a text that is one of those UUIDs would come back as the other text
        let made = values[2].1.clone();
        assert!(convert::up(&carried, &Value::text(made)).unwrap_err().contains("made up for"));
        assert_ne!(made_up("users", "a"), made_up("tags", "a"));
    }

    #[test]
    fn a_pair_comes_before_what_follows_from_the_key() {
        let (form, map) = (KeyForm::Shift { by: 100, most: 99 }, KeyMap::of("docs"));
        assert_eq!(down(&form, &map, &Value::Int(107)).unwrap(), Value::Int(7));
        assert!(down(&form, &map, &Value::Int(250)).is_err());
        map.add(&Pair::new("docs", &Value::Int(7), &Value::Int(250)));
        assert_eq!(down(&form, &map, &Value::Int(250)).unwrap(), Value::Int(7));
        assert_eq!(up(&form, &map, &Value::Int(7)).unwrap(), Value::Int(250));
        // 7 is taken: whoever is 107 now is another
        assert!(down(&form, &map, &Value::Int(107)).is_err());
        assert!(up(&form, &map, &Value::Int(100)).is_err());
    }
}
