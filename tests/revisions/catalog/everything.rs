//! A schema with one of everything.

use super::{Place, Renames, built_again, changed, same};

pub const POSTGRES: &str = r#"
CREATE SCHEMA "shop floor";
CREATE TYPE mood AS ENUM ('glad', 'so so', 'it''s bad');
CREATE DOMAIN price AS numeric(12, 2) DEFAULT 0 NOT NULL CONSTRAINT not_negative CHECK (VALUE >= 0);
CREATE DOMAIN "shop floor".name AS varchar(40) COLLATE "C";
CREATE TYPE size AS (width integer, label text COLLATE "C");
CREATE SEQUENCE numbers AS integer INCREMENT BY 5 MINVALUE 5 MAXVALUE 1000 START WITH 10 CACHE 3 CYCLE;
CREATE SEQUENCE backwards INCREMENT BY -1;
CREATE FUNCTION next_code() RETURNS text LANGUAGE sql AS $$ SELECT 'c' || nextval('public.numbers') $$;
CREATE FUNCTION twice(n integer) RETURNS integer LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS 'SELECT n * 2';
CREATE TABLE makers (id serial PRIMARY KEY, name "shop floor".name NOT NULL UNIQUE);
CREATE TABLE "shop floor"."Odd ""Table" (
    "Id" bigint GENERATED ALWAYS AS IDENTITY (START WITH 7 INCREMENT BY 2) PRIMARY KEY,
    maker integer NOT NULL REFERENCES public.makers ON DELETE CASCADE ON UPDATE SET NULL,
    code text DEFAULT public.next_code() NOT NULL,
    feeling public.mood DEFAULT 'so so',
    feelings public.mood[] DEFAULT '{glad}',
    cost public.price,
    shape public.size,
    "order" varchar(10) COLLATE "C" DEFAULT 'x''y',
    doubled integer GENERATED ALWAYS AS (public.twice(maker) + 1) STORED,
    at timestamptz(3) DEFAULT now(),
    during tstzrange,
    tags text[] NOT NULL DEFAULT ARRAY['a', 'b'],
    body jsonb,
    CONSTRAINT "a check" CHECK (maker > 0 AND "order" <> ''),
    CONSTRAINT once UNIQUE (maker, code) DEFERRABLE INITIALLY DEFERRED,
    EXCLUDE USING gist (during WITH &&)
) WITH (fillfactor = 70);
ALTER TABLE "shop floor"."Odd ""Table" ALTER body SET STORAGE EXTERNAL, ALTER code SET STATISTICS 500, ALTER tags SET (n_distinct = 5);
CREATE TABLE makers_alike (a integer, b integer, PRIMARY KEY (b, a));
CREATE TABLE round_a (id integer PRIMARY KEY, b integer);
CREATE TABLE round_b (id integer PRIMARY KEY, a integer REFERENCES round_a, self integer REFERENCES round_b);
ALTER TABLE round_a ADD CONSTRAINT to_b FOREIGN KEY (b) REFERENCES round_b DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE round_a ADD CONSTRAINT later CHECK (b > 1) NOT VALID;
ALTER TABLE makers ADD CONSTRAINT to_round FOREIGN KEY (id) REFERENCES round_a NOT VALID;
CREATE UNLOGGED TABLE fleeting (a integer UNIQUE NULLS NOT DISTINCT, b text NOT NULL);
CREATE UNIQUE INDEX fleeting_b ON fleeting (b);
ALTER TABLE fleeting REPLICA IDENTITY USING INDEX fleeting_b;
ALTER TABLE makers CLUSTER ON makers_name_key;
CREATE INDEX partial ON "shop floor"."Odd ""Table" (maker DESC NULLS LAST, lower("order")) INCLUDE (cost) WHERE cost > 3;
CREATE INDEX tagged ON "shop floor"."Odd ""Table" USING gin (tags);
CREATE STATISTICS together (dependencies) ON a, b FROM makers_alike;
CREATE VIEW cheap WITH (security_barrier = true) AS SELECT m.id, m.name, t.cost FROM makers m JOIN "shop floor"."Odd ""Table" t ON t.maker = m.id WHERE t.cost < 5;
CREATE VIEW a_on_cheap AS SELECT id FROM cheap;
CREATE MATERIALIZED VIEW counted AS SELECT count(*) AS n, maker FROM "shop floor"."Odd ""Table" GROUP BY maker;
CREATE UNIQUE INDEX counted_maker ON counted (maker);
CREATE FUNCTION of_row(m makers) RETURNS text LANGUAGE sql STABLE BEGIN ATOMIC SELECT m.name::text; END;
CREATE VIEW calls AS SELECT of_row(m) AS said FROM makers m;
CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN NEW.code := 'x;y'; RETURN NEW; END $f$;
CREATE TRIGGER stamp BEFORE INSERT OR UPDATE OF code ON "shop floor"."Odd ""Table" FOR EACH ROW WHEN (NEW.maker > 1) EXECUTE FUNCTION stamp('a', 'b');
CREATE TRIGGER off AFTER DELETE ON makers FOR EACH STATEMENT EXECUTE FUNCTION stamp();
ALTER TABLE makers DISABLE TRIGGER off;
CREATE CONSTRAINT TRIGGER late AFTER INSERT ON makers DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION stamp();
ALTER TABLE makers ENABLE ALWAYS TRIGGER late;
CREATE TRIGGER instead INSTEAD OF INSERT ON cheap FOR EACH ROW EXECUTE FUNCTION stamp();
CREATE RULE quiet AS ON DELETE TO round_a DO INSTEAD NOTHING;
CREATE PROCEDURE clear(INOUT n integer) LANGUAGE plpgsql AS $$ BEGIN n := 1; END $$;
CREATE AGGREGATE longest(text) (SFUNC = text_larger, STYPE = text, INITCOND = '');
ALTER TABLE makers ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY mine ON makers AS RESTRICTIVE FOR UPDATE TO PUBLIC USING (name = current_user) WITH CHECK (id > 0);
COMMENT ON SCHEMA "shop floor" IS 'where it''s at \ here';
COMMENT ON TABLE makers IS 'who makes';
COMMENT ON COLUMN makers.name IS 'a name';
COMMENT ON COLUMN cheap.cost IS 'low';
COMMENT ON TYPE mood IS 'how';
COMMENT ON DOMAIN price IS 'how much';
COMMENT ON SEQUENCE numbers IS 'which';
COMMENT ON FUNCTION twice(integer) IS 'two';
COMMENT ON AGGREGATE longest(text) IS 'long';
COMMENT ON PROCEDURE clear(integer) IS 'clean';
COMMENT ON VIEW cheap IS 'a view';
COMMENT ON MATERIALIZED VIEW counted IS 'a count';
COMMENT ON INDEX "shop floor".partial IS 'a part';
COMMENT ON CONSTRAINT once ON "shop floor"."Odd ""Table" IS 'one time';
COMMENT ON TRIGGER off ON makers IS 'not on';
COMMENT ON RULE quiet ON round_a IS 'hush';
COMMENT ON POLICY mine ON makers IS 'not yours';
COMMENT ON STATISTICS together IS 'numbers';
GRANT SELECT ON makers TO PUBLIC;
GRANT UPDATE (name) ON makers TO PUBLIC;
REVOKE EXECUTE ON FUNCTION twice(integer) FROM PUBLIC;
GRANT USAGE ON SEQUENCE numbers TO PUBLIC;
GRANT USAGE ON SCHEMA "shop floor" TO PUBLIC;
REVOKE TRUNCATE ON round_a FROM CURRENT_USER;
"#;

pub const SQLITE: &str = r#"
CREATE TABLE makers (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE COLLATE NOCASE);
CREATE TABLE "Odd ""Table" ( -- a comment (with a bracket
    [the id] INTEGER PRIMARY KEY,
    maker INTEGER NOT NULL REFERENCES makers (id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    code TEXT DEFAULT (lower(hex(randomblob(4)))) NOT NULL,
    "order" varchar(10) DEFAULT 'x''y; -- z',
    `doubled` INTEGER GENERATED ALWAYS AS (maker * 2) STORED,
    halved AS (maker / 2) VIRTUAL,
    at timestamp DEFAULT CURRENT_TIMESTAMP,
    n NUMERIC CHECK (n BETWEEN -1 AND +5.5),
    CONSTRAINT "a check" CHECK (maker > 0 AND "order" <> ''),
    UNIQUE (maker, code) ON CONFLICT IGNORE
);
CREATE TABLE pairs (a INTEGER, b TEXT, PRIMARY KEY (b, a DESC)) WITHOUT ROWID, STRICT;
CREATE TABLE round_a (id INTEGER PRIMARY KEY, b INTEGER REFERENCES round_b);
CREATE TABLE round_b (id INTEGER PRIMARY KEY, a INTEGER REFERENCES round_a, self INTEGER REFERENCES round_b);
CREATE TABLE bare (a, b);
CREATE INDEX "an index" ON "Odd ""Table" (maker DESC, lower("order") COLLATE NOCASE) WHERE n > 3;
CREATE UNIQUE INDEX pairs_b ON pairs (b);
CREATE VIEW cheap AS SELECT m.id, m.name FROM makers m JOIN "Odd ""Table" t ON t.maker = m.id WHERE t.n < 5;
CREATE VIEW a_on_cheap (one) AS SELECT id FROM cheap;
CREATE TRIGGER stamp AFTER INSERT ON makers WHEN NEW.id > 1 BEGIN
    UPDATE makers SET name = 'x; END' WHERE id = NEW.id;
    INSERT INTO bare VALUES (CASE WHEN 1 THEN 2 END, 3);
END;
CREATE TRIGGER instead INSTEAD OF INSERT ON cheap BEGIN SELECT 1; END;
CREATE VIRTUAL TABLE search USING fts5(body, tokenize = 'porter');
"#;

#[test]
fn one_of_everything_is_built_again_in_postgresql() {
    let mut place = Place::postgres();
    place.run(POSTGRES);
    let catalog = place.read();
    let mut other = Place::postgres();
    let start = other.read();
    // the rights too: they are our own role's to give
    let all = change_from(&start, &catalog);
    other.all(&all);
    same(&catalog, &other.read());
    // and back to nothing
    let back = changed(&mut other, &start, &Renames::default());
    assert_eq!(back.not_generated, Vec::<String>::new());
    built_again(&mut other, Place::postgres);
}

fn change_from(from: &super::Catalog, to: &super::Catalog) -> Vec<String> {
    let change = super::change(from, to, &Renames::default());
    assert_eq!(change.not_generated, Vec::<String>::new());
    change.up
}

#[test]
fn one_of_everything_is_built_again_in_sqlite() {
    let mut place = Place::sqlite();
    place.run(SQLITE);
    let catalog = built_again(&mut place, Place::sqlite);
    assert_eq!(catalog.tables().len(), 6);
    let mut other = Place::sqlite();
    let start = other.read();
    changed(&mut other, &catalog, &Renames::default());
    changed(&mut other, &start, &Renames::default());
}

#[test]
fn rows_can_be_put_in_before_what_would_act_on_them() {
    for (mut place, script) in [(Place::postgres(), POSTGRES), (Place::sqlite(), SQLITE)] {
        place.run(script);
        let catalog = place.read();
        let mut other = if script == POSTGRES { Place::postgres() } else { Place::sqlite() };
        let (late, early): (Vec<_>, Vec<_>) = catalog.create().into_iter().partition(|s| s.after_rows);
        other.build(&early);
        other.run("INSERT INTO round_a (id, b) VALUES (1, 2); INSERT INTO round_b (id, a) VALUES (2, 1); INSERT INTO makers VALUES (1, 'a');");
        other.build(&late);
        let rights = |d: &super::Difference| !d.to_string().contains("GRANT");
        let found: Vec<_> = super::failing(&catalog, &other.read()).into_iter().filter(rights).collect();
        assert!(found.is_empty(), "{}", super::text(&found));
    }
}
