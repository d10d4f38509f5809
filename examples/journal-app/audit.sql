-- The audit trail, and while a migration soaks the originals: psql "$DATABASE_URL" -f audit.sql
\pset footer off
SELECT migration, title, outcome, ended_at, note FROM backout.migration_log ORDER BY ended_at;
-- the originals, as they follow; no rows before the migration, after a rollback (they are home), and once it is completed
SELECT schema_name FROM information_schema.schemata WHERE schema_name = 'migration_backup';
SELECT c.relname AS original, a.attname AS key, format_type(a.atttypid, a.atttypmod) AS type
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'id'
WHERE c.relnamespace = to_regnamespace('migration_backup') AND c.relkind = 'r'
ORDER BY c.relname;
