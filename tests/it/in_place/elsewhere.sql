ALTER TABLE other ADD n int DEFAULT nextval('children_id_seq'), ADD parent int;
CREATE SCHEMA reports;
CREATE SCHEMA "Odd.One";
CREATE VIEW reports.words WITH (security_barrier = true) AS SELECT c.id, c.word, p.name FROM children c JOIN parents p ON p.id = c.parent;
CREATE VIEW "Odd.One".counted AS SELECT count(*) AS n FROM reports.words;
CREATE VIEW near AS SELECT n FROM "Odd.One".counted;
CREATE MATERIALIZED VIEW reports.kept WITH (fillfactor = 90) AS SELECT id, word FROM reports.words;
CREATE UNIQUE INDEX kept_id ON reports.kept (id);
ALTER INDEX reports.kept_id SET (fillfactor = 70);
CREATE STATISTICS reports.both_of ON parent, word FROM children;
CREATE VIEW reports.open (id, word) WITH (check_option = cascaded) AS SELECT id, word FROM children WHERE id > 0;
ALTER VIEW reports.open ALTER word SET DEFAULT 'hey';
CREATE VIEW reports.asked WITH (security_invoker = true) AS SELECT name FROM parents; -- from 150000
CREATE FUNCTION instead() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE TRIGGER through INSTEAD OF UPDATE ON reports.words FOR EACH ROW EXECUTE FUNCTION instead();
CREATE RULE gone AS ON DELETE TO reports.words DO INSTEAD DELETE FROM children WHERE id = OLD.id;
CREATE FUNCTION said(parents, suffix text DEFAULT '!') RETURNS text STABLE COST 7 SET work_mem = '8MB' LANGUAGE sql AS $$ SELECT $1.name || $2 $$;
CREATE FUNCTION said(children) RETURNS text LANGUAGE sql AS $$ SELECT $1.word $$;
CREATE FUNCTION whole() RETURNS SETOF parents LANGUAGE sql AS $$ SELECT * FROM parents $$;
CREATE FUNCTION reports.call(w reports.words, OUT called text) LANGUAGE plpgsql AS $$ BEGIN called := w.name || w.word; END $$;
CREATE PROCEDURE reports.take(p parents[]) LANGUAGE plpgsql AS $$ BEGIN END $$;
CREATE VIEW sayings AS SELECT said(p) AS said FROM parents p UNION ALL SELECT said(c) FROM children c;
CREATE VIEW reports.called AS SELECT string_agg(reports.call(w), ',' ORDER BY w.id) AS called FROM reports.words w;
CREATE VIEW reports.none AS SELECT (NULL::parents).name AS name;
CREATE FUNCTION reports.many(of text DEFAULT 'x') RETURNS bigint STABLE LANGUAGE sql BEGIN ATOMIC SELECT count(*) FROM public.parents, public.whole() w WHERE w.name <> many.of; END; -- from 140000
CREATE VIEW reports.by_many AS SELECT reports.many() AS n; -- from 140000
CREATE POLICY "odd policy" ON other FOR UPDATE TO $READER USING (EXISTS (SELECT FROM parents p WHERE p.id = other.parent)) WITH CHECK (n > (SELECT min(id) FROM reports.words));
CREATE POLICY made ON other FOR INSERT WITH CHECK (parent IN (SELECT id FROM children));
CREATE RULE "odd rule" AS ON INSERT TO other WHERE NEW.id > 0 DO ALSO UPDATE parents SET note = NEW.id || ' came' WHERE id = 1;
ALTER TABLE other ENABLE ALWAYS RULE "odd rule";
CREATE VIEW "Odd.One".apart AS SELECT 1 AS id;
CREATE RULE through AS ON INSERT TO "Odd.One".apart DO INSTEAD INSERT INTO parents (name) VALUES (NEW.id::text);
COMMENT ON POLICY made ON other IS 'made';
COMMENT ON RULE "odd rule" ON other IS 'odd';
COMMENT ON VIEW reports.words IS 'words';
COMMENT ON COLUMN reports.words.name IS 'of the parent';
COMMENT ON MATERIALIZED VIEW reports.kept IS 'kept';
COMMENT ON STATISTICS reports.both_of IS 'both';
COMMENT ON TRIGGER through ON reports.words IS 'through';
COMMENT ON FUNCTION said(parents, text) IS 'said';
COMMENT ON PROCEDURE reports.take(parents[]) IS 'taken';
GRANT SELECT ON reports.words, reports.kept TO $READER;
GRANT UPDATE (word) ON reports.words TO $READER WITH GRANT OPTION;
REVOKE EXECUTE ON FUNCTION said(parents, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION said(parents, text) TO $READER WITH GRANT OPTION;
REVOKE EXECUTE ON FUNCTION reports.many FROM PUBLIC; -- from 140000
-- as the administrator
GRANT $OTHER TO $OWNER;
GRANT USAGE, CREATE ON SCHEMA reports, public TO $OTHER;
GRANT SELECT ON parents, children TO $OTHER;
ALTER VIEW reports.words OWNER TO $OTHER;
ALTER FUNCTION whole() OWNER TO $OTHER;
SET ROLE $OTHER;
GRANT EXECUTE ON FUNCTION whole() TO $READER;
RESET ROLE;
ALTER DEFAULT PRIVILEGES FOR ROLE $OWNER GRANT SELECT ON TABLES TO PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE $OWNER REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
