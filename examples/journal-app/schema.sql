-- What the application has before the migration: ids are text, as its first version made them.
CREATE TABLE users (
    id varchar(36) PRIMARY KEY DEFAULT gen_random_uuid()::text,
    email varchar(255) UNIQUE NOT NULL,
    hashed_password varchar(255) NOT NULL,
    is_active boolean DEFAULT true,
    created_at timestamptz DEFAULT now(),
    updated_at timestamptz DEFAULT now()
);
CREATE TABLE journal_entries (
    id varchar(36) PRIMARY KEY DEFAULT gen_random_uuid()::text,
    user_id varchar(36) NOT NULL CONSTRAINT fk_journal_entries_user_id REFERENCES users (id) ON DELETE CASCADE,
    parent_id varchar(36) CONSTRAINT fk_journal_entries_parent_id REFERENCES journal_entries (id) ON DELETE SET NULL,
    title text NOT NULL,
    body text,
    mood smallint CHECK (mood BETWEEN 1 AND 5),
    facts jsonb NOT NULL DEFAULT '{}',
    deleted_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ix_journal_entries_user_id ON journal_entries (user_id, created_at DESC) WHERE deleted_at IS NULL;
CREATE INDEX ix_journal_entries_parent_id ON journal_entries (parent_id);
CREATE INDEX ix_journal_entries_title ON journal_entries (lower(title));
CREATE TABLE tags (
    id varchar(36) PRIMARY KEY DEFAULT gen_random_uuid()::text,
    user_id varchar(36) NOT NULL CONSTRAINT fk_tags_user_id REFERENCES users (id) ON DELETE CASCADE,
    name varchar(100) NOT NULL,
    color char(7),
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX uq_tags_user_id_name ON tags (user_id, name);
CREATE INDEX ix_tags_name ON tags (lower(name));
CREATE TABLE entry_tags (
    entry_id varchar(36) CONSTRAINT fk_entry_tags_entry_id REFERENCES journal_entries (id) ON DELETE CASCADE,
    tag_id varchar(36) CONSTRAINT fk_entry_tags_tag_id REFERENCES tags (id) ON DELETE CASCADE,
    PRIMARY KEY (entry_id, tag_id)
);
CREATE INDEX ix_entry_tags_tag_id ON entry_tags (tag_id);
CREATE TABLE reminders (
    id varchar(36) PRIMARY KEY DEFAULT gen_random_uuid()::text,
    user_id varchar(36) NOT NULL CONSTRAINT fk_reminders_user_id REFERENCES users (id) ON DELETE CASCADE,
    entry_id varchar(36) CONSTRAINT fk_reminders_entry_id REFERENCES journal_entries (id) ON DELETE SET NULL,
    due_at timestamptz NOT NULL,
    repeats interval,
    done boolean NOT NULL DEFAULT false
);
CREATE INDEX ix_reminders_due ON reminders (due_at) WHERE NOT done;

CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at := now();
    RETURN NEW;
END $$;
CREATE TRIGGER users_touch BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION touch();
CREATE TRIGGER journal_entries_touch BEFORE UPDATE ON journal_entries FOR EACH ROW EXECUTE FUNCTION touch();

CREATE VIEW active_entries AS
    SELECT e.id, e.user_id, u.email, e.title, e.mood, e.created_at
    FROM journal_entries e JOIN users u ON u.id = e.user_id
    WHERE e.deleted_at IS NULL AND u.is_active;

COMMENT ON TABLE journal_entries IS 'what people write down';
COMMENT ON COLUMN journal_entries.mood IS '1 is low, 5 is high';
