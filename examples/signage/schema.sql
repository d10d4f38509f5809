CREATE TABLE assets (
    asset_id TEXT NOT NULL PRIMARY KEY,
    name TEXT,
    uri TEXT,
    md5 TEXT,
    start_date TIMESTAMP,
    end_date TIMESTAMP,
    duration TEXT,
    mimetype TEXT,
    is_enabled INTEGER DEFAULT 0,
    is_processing INTEGER DEFAULT 0,
    nocache INTEGER DEFAULT 0,
    play_order INTEGER DEFAULT 0,
    skip_asset_check INTEGER DEFAULT 0
);
CREATE INDEX assets_play_order ON assets (play_order);
INSERT INTO assets VALUES
    ('4c8dbce5', 'Welcome', 'https://example.org/welcome.png', NULL, '2025-01-01 00:00:00', '2026-01-01 00:00:00', '10', 'image', 1, 0, 0, 0, 0),
    ('9a1f0c77', 'Météo', 'https://example.org/meteo', NULL, '2025-01-28 14:00:00.250000', '2026-01-28 14:00:00', '25', 'webpage', 1, 0, 0, 1, 0);
