//! A JSON file's own style survives: there and back, only what was changed is changed.

use super::{Home, same_bytes};

/// Moves `users` (an object keyed by id) and `items` (an array) to SQLite, lets another client change rows, and takes it back.
fn there_and_back(original: &[u8], sql: &str, expected: &[u8]) {
    let home = Home::new(&[("files", "json:app.json"), ("local", "sqlite:app.db")], "");
    home.write("app.json", original);
    home.migration(
        "20250101000000_to_sqlite",
        "[transfer]\nfrom = \"files\"\nto = \"local\"\n\
         [[transfer.table]]\nsource = \"/users\"\nkey = \"uid\"\ninto = \"users\"\n\
         [[transfer.table]]\nsource = \"/items\"\nkey = \"id\"\ninto = \"items\"\n",
    );
    home.up();
    same_bytes(&home.read("app.json"), original);
    home.rollback();
    same_bytes(&home.read("app.json"), original);
    home.up();
    home.sqlite("app.db").execute_batch(sql).unwrap();
    home.rollback();
    same_bytes(&home.read("app.json"), expected);
}

const SQL: &str = "UPDATE users SET name = 'Zoë \"q\" 日😀\\' WHERE uid = 'b';
    DELETE FROM users WHERE uid = 'c';
    INSERT INTO users (uid, name, n) VALUES ('d', 'tab\tand\nline', 4);
    DELETE FROM items WHERE id = 1;
    INSERT INTO items (id, tag) VALUES (3, NULL);
    UPDATE items SET id = 20 WHERE id = 2;";

#[test]
fn compact_on_one_line() {
    there_and_back(
        "{\"v\":[1,2 ,3],\"users\":{\"a\":{\"name\":\"Ann\\u00e9\\/é\",\"n\":1},\"b\":{\"name\":\"Bo\",\"n\":2},\"c\":{\"name\":\"Cy\",\"n\":3}},\"items\":[{\"id\":1,\"tag\":\"x\"},{\"id\":2,\"tag\":null}],\"end\":1E3}\n".as_bytes(),
        SQL,
        "{\"v\":[1,2 ,3],\"users\":{\"a\":{\"name\":\"Ann\\u00e9\\/é\",\"n\":1},\"b\":{\"name\":\"Zoë \\\"q\\\" 日😀\\\\\",\"n\":2},\"d\":{\"name\":\"tab\\tand\\nline\",\"n\":4}},\"items\":[{\"id\":20,\"tag\":null},{\"id\":3,\"tag\":null}],\"end\":1E3}\n".as_bytes(),
    );
}

const INDENTED: &str = r#"{
  "users": {
    "a": {
      "name": "Ann",
      "n": 1
    },
    "b": {
      "name": "Bo",
      "n": 2
    },
    "c": {
      "name": "Cy",
      "n": 3
    }
  },
  "items": [
    {
      "id": 1,
      "tag": "x"
    },
    {
      "id": 2,
      "tag": null
    }
  ],
  "end": 10.0
}
"#;

const INDENTED_AFTER: &str = r#"{
  "users": {
    "a": {
      "name": "Ann",
      "n": 1
    },
    "b": {
      "name": "Zoë \"q\" 日😀\\",
      "n": 2
    },
    "d": {
      "name": "tab\tand\nline",
      "n": 4
    }
  },
  "items": [
    {
      "id": 20,
      "tag": null
    },
    {
      "id": 3,
      "tag": null
    }
  ],
  "end": 10.0
}
"#;

/// With something beyond ASCII in it, so that the file says itself that it does not escape.
fn unescaped(text: &str) -> String {
    text.replace("\"Ann\"", "\"Ånn\"")
}

#[test]
fn indented_by_two_with_crlf() {
    let crlf = |text: &str| unescaped(text).replace('\n', "\r\n");
    there_and_back(crlf(INDENTED).as_bytes(), SQL, crlf(INDENTED_AFTER).as_bytes());
}

#[test]
fn a_byte_order_mark_and_no_final_newline() {
    let bom = |text: &str| format!("\u{feff}{}", unescaped(text).trim_end());
    there_and_back(bom(INDENTED).as_bytes(), SQL, bom(INDENTED_AFTER).as_bytes());
}

#[test]
fn tabs() {
    let tabs = |text: &str| unescaped(text).replace("  ", "\t");
    there_and_back(tabs(INDENTED).as_bytes(), SQL, tabs(INDENTED_AFTER).as_bytes());
}

#[test]
fn escaped_ascii() {
    let escaped = |text: &str| {
        text.replace("\"Ann\"", "\"\\u00c5nn \\ud83d\\ude00\"")
            .replace('ë', "\\u00eb")
            .replace('日', "\\u65e5")
            .replace('😀', "\\ud83d\\ude00")
    };
    there_and_back(escaped(INDENTED).as_bytes(), SQL, escaped(INDENTED_AFTER).as_bytes());
}

/// Numbers keep their spelling, also those of a record in which something else was changed.
#[test]
fn spelled_numbers() {
    there_and_back(
        b"{\"users\": {\"a\": {\"name\": \"x\", \"n\": 1E3}, \"b\": {\"name\": \"y\", \"n\": 10.0}, \"c\": {\"n\": 2.50, \"name\": \"z\"}}, \"items\": [ {\"id\":1, \"tag\":-0.0},{ \"id\":2,\"tag\":1e-2 } ]}",
        "UPDATE users SET name = 'new' WHERE uid IN ('b', 'c'); UPDATE users SET n = n + 1 WHERE uid = 'a'; UPDATE items SET tag = 0.5 WHERE id = 1",
        b"{\"users\": {\"a\": {\"name\": \"x\", \"n\": 1001.0}, \"b\": {\"name\": \"new\", \"n\": 10.0}, \"c\": {\"n\": 2.50, \"name\": \"new\"}}, \"items\": [ {\"id\":1, \"tag\":0.5},{ \"id\":2,\"tag\":1e-2 } ]}",
    );
}

/// Members that only some records have, nested documents, and null beside missing.
#[test]
fn missing_null_and_nested() {
    there_and_back(
        "{\"users\": {\"a\": {\"name\": \"x\", \"opt\": null, \"deep\": {\"k\" : [ 1, 2.0 ]}},\n \"b\": {\"name\": \"y\"},\n \"c\": {\"name\": null, \"opt\": 5}}, \"items\": [{\"id\": 1}]}".as_bytes(),
        "UPDATE users SET name = 'X' WHERE uid = 'a'; UPDATE users SET opt = 7 WHERE uid = 'b'; UPDATE users SET name = 'Z', opt = NULL WHERE uid = 'c'",
        "{\"users\": {\"a\": {\"name\": \"X\", \"opt\": null, \"deep\": {\"k\" : [ 1, 2.0 ]}},\n \"b\": {\"name\": \"y\", \"opt\": 7},\n \"c\": {\"name\": \"Z\"}}, \"items\": [{\"id\": 1}]}".as_bytes(),
    );
}
