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
