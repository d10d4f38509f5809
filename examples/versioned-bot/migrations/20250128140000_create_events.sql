-- migrate:up
CREATE TABLE events (
    id INTEGER PRIMARY KEY,
    guild_id INTEGER NOT NULL,
    title TEXT NOT NULL,
    starts_at TEXT NOT NULL DEFAULT ''
);
CREATE INDEX events_guild ON events (guild_id);

-- migrate:down
DROP TABLE events;
