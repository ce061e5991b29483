-- Times are microseconds since the Unix epoch, lists are JSON arrays of text,
-- hashes are 64 lower-case hexadecimal digits.

CREATE TABLE api_keys (
    key_hash    TEXT    NOT NULL PRIMARY KEY,
    id          TEXT    NOT NULL UNIQUE,
    name        TEXT    NOT NULL,
    permissions TEXT    NOT NULL,
    rate_limit  INTEGER NOT NULL,
    created_at  INTEGER NOT NULL,
    expires_at  INTEGER,
    is_active   INTEGER NOT NULL,
    allowed_ips TEXT    NOT NULL,
    revision    INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL,
    last_used   INTEGER,
    usage_count INTEGER NOT NULL DEFAULT 0,
    sealed      BLOB    NOT NULL
) STRICT;

-- What was deleted, so that it can be told from what a feed has missed.
CREATE TABLE tombstones (
    key_hash   TEXT    NOT NULL PRIMARY KEY,
    revision   INTEGER NOT NULL,
    deleted_at INTEGER NOT NULL
) STRICT;

CREATE TABLE keyring (
    only     INTEGER NOT NULL PRIMARY KEY CHECK (only = 1),
    document BLOB    NOT NULL
) STRICT;

-- The last change of each subject: a key_hash, or 'keyring'. The sequence only
-- ever grows, over the whole store. Triggers write it, so that an edit made by
-- hand is seen as well as one of ours. Never OR REPLACE in a trigger: the
-- conflict clause of the statement that fired it would replace that one.
CREATE TABLE changes (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    subject  TEXT    NOT NULL UNIQUE
) STRICT;

CREATE TRIGGER api_keys_inserted AFTER INSERT ON api_keys BEGIN
    DELETE FROM changes WHERE subject = NEW.key_hash;
    INSERT INTO changes (subject) VALUES (NEW.key_hash);
END;

-- Bookkeeping is no change.
CREATE TRIGGER api_keys_updated AFTER UPDATE OF
    key_hash, id, name, permissions, rate_limit, created_at, expires_at,
    is_active, allowed_ips, revision, sealed
ON api_keys BEGIN
    DELETE FROM changes WHERE subject IN (OLD.key_hash, NEW.key_hash);
    INSERT INTO changes (subject) VALUES (NEW.key_hash);
    INSERT INTO changes (subject) SELECT OLD.key_hash WHERE OLD.key_hash <> NEW.key_hash;
END;

CREATE TRIGGER api_keys_deleted AFTER DELETE ON api_keys BEGIN
    DELETE FROM tombstones WHERE key_hash = OLD.key_hash;
    INSERT INTO tombstones (key_hash, revision, deleted_at)
        VALUES (OLD.key_hash, OLD.revision + 1, strftime('%s', 'now') * 1000000);
    DELETE FROM changes WHERE subject = OLD.key_hash;
    INSERT INTO changes (subject) VALUES (OLD.key_hash);
END;

-- What was deleted does not come back under the same hash.
CREATE TRIGGER api_keys_not_revived BEFORE INSERT ON api_keys
WHEN EXISTS (SELECT 1 FROM tombstones WHERE key_hash = NEW.key_hash) BEGIN
    SELECT RAISE(ABORT, 'this key was deleted');
END;

CREATE TRIGGER api_keys_not_moved_to_deleted BEFORE UPDATE OF key_hash ON api_keys
WHEN EXISTS (SELECT 1 FROM tombstones WHERE key_hash = NEW.key_hash) BEGIN
    SELECT RAISE(ABORT, 'this key was deleted');
END;

CREATE TRIGGER tombstones_deleted AFTER DELETE ON tombstones BEGIN
    DELETE FROM changes WHERE subject = OLD.key_hash;
END;

CREATE TRIGGER keyring_inserted AFTER INSERT ON keyring BEGIN
    DELETE FROM changes WHERE subject = 'keyring';
    INSERT INTO changes (subject) VALUES ('keyring');
END;

CREATE TRIGGER keyring_updated AFTER UPDATE ON keyring BEGIN
    DELETE FROM changes WHERE subject = 'keyring';
    INSERT INTO changes (subject) VALUES ('keyring');
END;

CREATE TRIGGER keyring_deleted AFTER DELETE ON keyring BEGIN
    DELETE FROM changes WHERE subject = 'keyring';
    INSERT INTO changes (subject) VALUES ('keyring');
END;
