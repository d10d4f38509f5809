//! Files, which nothing locks (P20).

use super::*;

#[test]
fn p20_a_write_between_the_drain_and_the_seal_is_not_lost() {
    for pair in [JsonToSqlite, JsonToPostgres] {
        let house = House::new(pair);
        house.until_ready();
        let script: Script = vec![("giver: sealed", act(|| house.at_source(WRITES)))];
        let end = house.when(script, |p| p.cutover()).unwrap_err();
        assert!(matches!(*end.error, Error::CalledOff { .. }), "{end:?}");
        assert_eq!(house.phase(), Phase::Ready);
        house.project().cutover().unwrap();
        assert_eq!(house.target(), after_writes(), "{pair:?}");
    }
}

/// The file is read whole by each drain: an application that never pauses is not run after.
#[test]
fn p20_drains_that_come_no_closer_to_a_busy_application_end() {
    let house = House::new(JsonToSqlite);
    let text = |n: usize| {
        let all: Vec<_> =
            (0..150).map(|id| serde_json::json!({"id": id, "word": format!("word {n}"), "n": 1.5})).collect();
        serde_json::to_string(&all).unwrap()
    };
    house.put("source.json", &text(0));
    let path = house.path("source.json");
    let (written, drains) = (Arc::new(Mutex::new(0)), Arc::new(Mutex::new(None)));
    let (count, before_verifying) = (written.clone(), drains.clone());
    let gate = Gate::watched(move |what| {
        let mut n = count.lock().unwrap();
        if what.ends_with("verifying") {
            *before_verifying.lock().unwrap() = Some(*n);
        }
        // a drain was read, and is about to be committed; before the first one is read nothing of it is there
        if before_verifying.lock().unwrap().is_none() && what.starts_with("receiver: changes")
            || what.starts_with("target: key of")
        {
            *n += 1;
            fs::write(&path, text(*n)).unwrap();
        }
    });
    let out = house.project().gated(gate).up(&UpOptions { until: Until::Ready, ..UpOptions::default() }).unwrap();
    assert_eq!(out.phase, Some(Phase::Ready));
    let drains = drains.lock().unwrap().unwrap();
    // four before the constraints are built, and four after them
    assert!((5..=9).contains(&drains), "{drains} drains");
    assert_eq!(house.target(), house.source());
}

#[test]
fn p20_what_someone_wrote_to_the_resting_file_is_noticed_at_once() {
    for pair in [JsonToSqlite, JsonToPostgres] {
        let house = House::new(pair);
        house.up();
        let ours = house.json();
        let theirs = ours.replace("three", "theirs");
        house.put("source.json", &theirs);
        // there is nothing to drain
        for end in [house.project().shadow().unwrap_err(), back(house.project()).unwrap_err()] {
            assert!(matches!(&*end.error, Error::Refused { .. } | Error::Store(StoreError::Refused { .. })), "{end:?}");
            assert!(end.to_string().contains("someone wrote to it"), "{end}");
        }
        assert_eq!(house.json(), theirs, "nothing of theirs is overwritten");
        assert_eq!(house.phase(), Phase::Soaking);
        house.put("source.json", &ours);
        // and while it is handed back
        let script: Script = vec![("giver: sealed", act(|| house.put("source.json", &theirs)))];
        let end = house.when(script, back).unwrap_err();
        assert!(matches!(*end.error, Error::CalledOff { .. }), "{end:?}");
        assert_eq!((house.json(), house.phase()), (theirs, Phase::Soaking));
        house.put("source.json", &ours);
        house.at_target(WRITES);
        rolled_back(&house);
        assert_eq!(house.source(), after_writes(), "{pair:?}");
    }
}
