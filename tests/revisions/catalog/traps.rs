//! What goes wrong elsewhere, each by its letter.

use super::{Place, Renames, change, changed, differences, failing, text};
use backout::revision::catalog::{Sign, What};

#[test]
fn f_enums_left_behind() {
    let mut place = Place::postgres();
    let before = place.read();
    place.run("CREATE TYPE mood AS ENUM ('glad'); CREATE TABLE t (m mood)");
    place.run("DROP TABLE t");
    let found = failing(&before, &place.read());
    let [one] = found.as_slice() else { panic!("{}", text(&found)) };
    assert_eq!((one.what, one.sign, one.object.as_str()), (What::Enum, Sign::Born, "public.mood"));
    assert_eq!(one.to_string(), "+ CREATE TYPE public.mood AS ENUM ('glad')");
    // what is generated takes it away
    changed(&mut place, &before, &Renames::default());
    assert_eq!(place.ask("SELECT typname FROM pg_type WHERE typname = 'mood'"), Vec::<String>::new());
}

#[test]
fn f_column_order_is_reported_not_failed() {
    for mut place in [Place::sqlite(), Place::postgres()] {
        place.run("CREATE TABLE t (a integer, b text, c integer)");
        let before = place.read();
        place.run("ALTER TABLE t DROP COLUMN b");
        place.run("ALTER TABLE t ADD COLUMN b text");
        let after = place.read();
        let found = differences(&before, &after);
        let [one] = found.as_slice() else { panic!("{}", text(&found)) };
        assert!(one.order_only);
        assert!(one.to_string().ends_with("columns in the order a, c, b"), "{one}");
        assert_eq!(before.fingerprint(), after.fingerprint());
        assert_eq!(change(&after, &before, &Renames::default()).up, Vec::<String>::new());
    }
}
