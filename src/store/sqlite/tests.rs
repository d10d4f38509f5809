//! What only a connection of ours can tell.

use super::*;

/// A commit that was told is on the disk, and its journal is gone from the folder: else a crash of the machine takes it back.
#[test]
fn p05_what_is_committed_survives_a_crash_of_the_machine() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let asked = |store: &mut Sqlite, mode: Mode| {
        store.begin(mode, &[]).unwrap();
        let how = store.number("ask", "PRAGMA synchronous").unwrap();
        store.run("write", "CREATE TABLE IF NOT EXISTS t (a)").unwrap();
        store.commit("write").unwrap();
        how
    };
    const EXTRA: i64 = 3;
    // a file that we make, and one that is there
    for _ in 0..2 {
        let mut store = Sqlite::open(&path, true, &Gate::default()).unwrap();
        assert_eq!((asked(&mut store, Mode::Write), asked(&mut store, Mode::Lease)), (EXTRA, EXTRA));
    }
}
