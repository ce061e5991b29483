-- What each key was used for since its first day: it stays when events and
-- their hours go. Triggers feed it, so that no writer of events can forget it.

CREATE TABLE key_totals (
    key_id      TEXT PRIMARY KEY NOT NULL,
    usage_count INTEGER NOT NULL,
    last_used   INTEGER NOT NULL,
    told_count  INTEGER NOT NULL DEFAULT 0 -- the usage_count that the key's record has
) STRICT, WITHOUT ROWID;

INSERT INTO key_totals (key_id, usage_count, last_used)
SELECT key_id, sum(requests), max(last_at) FROM usage_hourly GROUP BY key_id;

CREATE TRIGGER usage_hourly_inserted AFTER INSERT ON usage_hourly BEGIN
    INSERT INTO key_totals (key_id, usage_count, last_used)
    VALUES (NEW.key_id, NEW.requests, NEW.last_at)
    ON CONFLICT DO UPDATE SET usage_count = usage_count + excluded.usage_count,
        last_used = max(last_used, excluded.last_used);
END;

CREATE TRIGGER usage_hourly_updated AFTER UPDATE ON usage_hourly BEGIN
    INSERT INTO key_totals (key_id, usage_count, last_used)
    VALUES (NEW.key_id, NEW.requests - OLD.requests, NEW.last_at)
    ON CONFLICT DO UPDATE SET usage_count = usage_count + excluded.usage_count,
        last_used = max(last_used, excluded.last_used);
END;
