//! Writes that are not trusted are taken out again (P25).

use super::*;

/// Three drains, with a moment before each of the last two. Returns what the source was after each.
fn three_drains(house: &House) -> (Vec<Rows>, Vec<jiff::Timestamp>) {
    let mut states = Vec::new();
    let mut times = Vec::new();
    let steps = [
        "UPDATE things SET word = 'zwei' WHERE id = 2; INSERT INTO things (id, word) VALUES (6, 'six')",
        "UPDATE things SET word = 'xxx'; DELETE FROM things WHERE id = 3",
        "UPDATE things SET word = 'deux' WHERE id = 2; UPDATE things SET id = 40 WHERE id = 4; \
         INSERT INTO things (id, word) VALUES (3, 'again')",
    ];
    for sql in steps {
        while times.last().is_some_and(|t| house.target_time() <= *t) {
            std::thread::yield_now();
        }
        house.at_target(sql);
        house.shadow();
        states.push(house.source());
        let seen = house.project().status().unwrap().unwrap().source.drained_at.unwrap();
        times.push(seen.parse().unwrap());
    }
    house.at_target("INSERT INTO things (id, word) VALUES (50, 'never carried')");
    (states, times)
}

#[test]
fn p25_until_undoes_back_to_the_last_drain_before_and_exports_the_rest() {
    for (pair, gone) in
        [(JsonToSqlite, false), (SqliteToPostgres, false), (JsonToSqlite, true), (SqliteToPostgres, true)]
    {
        let house = House::new(pair);
        house.up();
        let (states, times) = three_drains(&house);
        if gone {
            house.config("postgres://nobody@127.0.0.1:1/nowhere", "");
        }
        let asked = RollbackOptions { until: Some(times[0]), ..Default::default() };
        let out = ok(house.project().rollback(&asked));
        assert_eq!(out.phase, Some(Phase::RolledBack), "{pair:?}");
        assert_eq!(house.source(), states[0], "{pair:?} gone: {gone}");
        assert_eq!(upto(&out), times[0]);
        house.runs_on_the_source();
        let left = house.exported(&out);
        let never = |l: &Json| l["why"] == "never carried";
        assert_eq!(left.iter().filter(|l| never(l)).count(), usize::from(!gone), "{left:?}");
        let of = |id: i64| -> Vec<(Json, Json)> {
            let mine = left.iter().filter(|l| l["key"]["id"].as_i64() == Some(id));
            mine.map(|l| (l["before"]["word"].clone(), l["after"]["word"].clone())).collect()
        };
        assert_eq!(of(2), [("xxx".into(), "deux".into()), ("zwei".into(), "xxx".into())], "{pair:?}");
        assert_eq!(of(3), [(Json::Null, "again".into()), ("three".into(), Json::Null)], "{pair:?}");
        // a run whose target was not there is set aside when the next one finds it
        house.config(&house.target, "");
        house.up();
        assert_eq!(house.phase(), Some(Phase::Soaking));
    }
}

#[test]
fn p25_discard_goes_back_to_the_cutover_to_the_byte() {
    for pair in [JsonToSqlite, SqliteToPostgres] {
        let house = House::new(pair);
        let before = fs::read(house.path("source.json")).unwrap_or_default();
        let first = house.source();
        house.up();
        three_drains(&house);
        let out = ok(house.project().rollback(&RollbackOptions { discard: true, ..Default::default() }));
        assert_eq!(house.source(), first, "{pair:?}");
        if pair == JsonToSqlite {
            let after: Json = serde_json::from_slice(&fs::read(house.path("source.json")).unwrap()).unwrap();
            let was: Json = serde_json::from_slice(&before).unwrap();
            let sorted = |j: &Json| {
                let mut list: Vec<String> = j.as_array().unwrap().iter().map(ToString::to_string).collect();
                list.sort();
                list
            };
            assert_eq!(sorted(&after), sorted(&was));
        }
        assert!(out.notes.iter().any(|n| n.contains("left out")), "{:?}", out.notes);
        house.runs_on_the_source();
    }
}

#[test]
fn p25_an_undoing_cut_off_between_two_drains_goes_on_and_exports_each_row_once() {
    for pair in [JsonToSqlite, SqliteToPostgres] {
        let house = House::new(pair);
        let first = house.source();
        house.up();
        three_drains(&house);
        let n = house.project().status().unwrap().unwrap().source.drains;
        let asked = RollbackOptions { discard: true, ..Default::default() };
        house.killed(&format!("source: drain {} undone", n - 2), |p| p.rollback(&asked));
        assert_eq!(house.phase(), Some(Phase::RollingBack));
        let out = ok(house.project().resume(None));
        assert_eq!(house.source(), first, "{pair:?}");
        let lines: Vec<String> = house.exported(&out).iter().map(ToString::to_string).collect();
        let mut once = lines.clone();
        once.sort();
        once.dedup();
        assert_eq!(once.len(), lines.len());
        assert_eq!(
            lines.iter().filter(|l| l.contains("never carried\",\"") || l.contains("never carried\"}")).count(),
            1
        );
        house.runs_on_the_source();
    }
}

#[test]
fn p25_a_moment_before_the_cutover_is_refused_and_nothing_is_changed() {
    let house = House::new(JsonToSqlite);
    house.up();
    let asked = RollbackOptions { until: Some("2001-01-01T00:00:00Z".parse().unwrap()), ..Default::default() };
    let said = house.project().rollback(&asked).unwrap_err();
    assert!(said.hint.contains("--discard"), "{}", said.hint);
    assert_eq!(house.phase(), Some(Phase::Soaking));
    assert!(house.path("running").exists());
}
