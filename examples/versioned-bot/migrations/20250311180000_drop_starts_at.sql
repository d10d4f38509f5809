-- Events are asked for by a calendar now. What was in starts_at is kept, and comes back with a rollback.
-- migrate:up
-- backout:allow D02 the bot of 2025-03 does not read it any more
-- backout:allow C03 the bot of 2025-03 does not read it any more
ALTER TABLE events DROP COLUMN starts_at;

-- migrate:down
ALTER TABLE events ADD COLUMN starts_at TEXT NOT NULL DEFAULT '';
