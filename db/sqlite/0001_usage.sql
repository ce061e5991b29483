-- Usage in SQLite. Times are microseconds since 1970, UTC. Ids are text.

CREATE TABLE usage_events (
    event_id       TEXT PRIMARY KEY NOT NULL,
    occurred_at    INTEGER NOT NULL,
    key_id         TEXT NOT NULL,
    route          TEXT NOT NULL,
    method         TEXT NOT NULL,
    status         INTEGER NOT NULL,
    outcome        TEXT NOT NULL,
    ended          TEXT NOT NULL,
    request_bytes  INTEGER NOT NULL,
    response_bytes INTEGER NOT NULL,
    duration_us    INTEGER NOT NULL,
    upstream_us    INTEGER NOT NULL,
    client_ip      TEXT,
    instance       TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX usage_events_by_time ON usage_events (occurred_at);

-- Sums of the events; they stay when the events are deleted.
CREATE TABLE usage_hourly (
    hour           INTEGER NOT NULL,
    key_id         TEXT NOT NULL,
    route          TEXT NOT NULL,
    requests       INTEGER NOT NULL,
    refused        INTEGER NOT NULL,
    request_bytes  INTEGER NOT NULL,
    response_bytes INTEGER NOT NULL,
    duration_us    INTEGER NOT NULL,
    last_at        INTEGER NOT NULL,
    PRIMARY KEY (hour, key_id, route)
) STRICT, WITHOUT ROWID;

-- What became of the decisions of each start of a process.
CREATE TABLE usage_instances (
    instance    TEXT PRIMARY KEY NOT NULL,
    stored      INTEGER NOT NULL, -- events that ended while the process lived
    interrupted INTEGER NOT NULL, -- events that did not
    updated_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- How many decisions there were.
CREATE TABLE usage_writers (
    instance TEXT NOT NULL,
    writer   INTEGER NOT NULL,
    decided  INTEGER NOT NULL,
    dropped  INTEGER NOT NULL,
    PRIMARY KEY (instance, writer)
) STRICT, WITHOUT ROWID;

-- Refusals of nobody in particular. Route, reason and client are empty in the
-- row of what went beyond the bound on rows.
CREATE TABLE refusals (
    minute   INTEGER NOT NULL,
    route    TEXT NOT NULL,
    reason   TEXT NOT NULL,
    client   TEXT NOT NULL, -- a /24 or /48, or empty when not known
    instance TEXT NOT NULL,
    count    INTEGER NOT NULL,
    PRIMARY KEY (minute, route, reason, client, instance)
) STRICT, WITHOUT ROWID;

CREATE TABLE audit_log (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    at       INTEGER NOT NULL,
    actor    TEXT NOT NULL,
    action   TEXT NOT NULL,
    key_id   TEXT,
    revision INTEGER,
    detail   TEXT NOT NULL
) STRICT;

CREATE INDEX audit_log_by_key ON audit_log (key_id);
