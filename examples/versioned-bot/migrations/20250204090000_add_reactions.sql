-- migrate:up
CREATE TABLE reactions (
    event_id INTEGER NOT NULL REFERENCES events (id) ON DELETE CASCADE,
    emoji TEXT NOT NULL,
    PRIMARY KEY (event_id, emoji)
) WITHOUT ROWID;

-- migrate:down
DROP TABLE reactions;
