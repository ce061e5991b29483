-- Usage in PostgreSQL. Times are UTC; byte counts and durations are whole numbers.

-- One row for each decided request of a known key, in one partition for each
-- UTC day. The key has the time in it because a partitioned table's has to: an
-- event that is stored again has the same time.
CREATE TABLE usage_events (
    event_id       uuid        NOT NULL,
    occurred_at    timestamptz NOT NULL,
    key_id         uuid        NOT NULL,
    route          text        NOT NULL,
    method         text        NOT NULL,
    status         smallint    NOT NULL, -- 0 when no response was begun
    outcome        text        NOT NULL, -- admitted, or the refusal's reason
    ended          text        NOT NULL,
    request_bytes  bigint      NOT NULL,
    response_bytes bigint      NOT NULL,
    duration_us    bigint      NOT NULL,
    upstream_us    bigint      NOT NULL,
    client_ip      inet,
    instance       uuid        NOT NULL,
    PRIMARY KEY (event_id, occurred_at)
) PARTITION BY RANGE (occurred_at);

-- Reports and `usage tail` go by time; rows come almost in its order.
CREATE INDEX usage_events_by_time ON usage_events USING brin (occurred_at);

-- Events that have no place among the others, kept for people to look at:
-- from before the retention or more than a day ahead, or not storable at all.
CREATE TABLE usage_quarantine (
    event_id       uuid        NOT NULL,
    occurred_at    timestamptz NOT NULL,
    key_id         uuid        NOT NULL,
    route          text        NOT NULL,
    method         text        NOT NULL,
    status         smallint    NOT NULL,
    outcome        text        NOT NULL,
    ended          text        NOT NULL,
    request_bytes  bigint      NOT NULL,
    response_bytes bigint      NOT NULL,
    duration_us    bigint      NOT NULL,
    upstream_us    bigint      NOT NULL,
    client_ip      inet,
    instance       uuid        NOT NULL,
    reason         text        NOT NULL, -- too_old, too_new or unstorable
    quarantined_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (event_id, occurred_at)
);

-- Sums of the events; they stay when the events are dropped.
CREATE TABLE usage_hourly (
    hour           timestamptz NOT NULL,
    key_id         uuid        NOT NULL,
    route          text        NOT NULL,
    requests       bigint      NOT NULL,
    refused        bigint      NOT NULL,
    request_bytes  numeric     NOT NULL, -- a sum of bigints may not be one
    response_bytes numeric     NOT NULL,
    duration_us    numeric     NOT NULL,
    last_at        timestamptz NOT NULL,
    PRIMARY KEY (hour, key_id, route)
);

-- What became of the decisions of each start of a process.
CREATE TABLE usage_instances (
    instance    uuid        PRIMARY KEY,
    stored      bigint      NOT NULL, -- events that ended while the process lived
    interrupted bigint      NOT NULL, -- events that did not
    quarantined bigint      NOT NULL, -- of these two, how many are in quarantine
    updated_at  timestamptz NOT NULL
);

-- How many decisions there were.
CREATE TABLE usage_writers (
    instance uuid    NOT NULL,
    writer   integer NOT NULL,
    decided  bigint  NOT NULL,
    dropped  bigint  NOT NULL,
    PRIMARY KEY (instance, writer)
);

-- Refusals of nobody in particular. Route, reason and client are empty in the
-- row of what went beyond the bound on rows.
CREATE TABLE refusals (
    minute   timestamptz NOT NULL,
    route    text        NOT NULL,
    reason   text        NOT NULL,
    client   text        NOT NULL, -- a /24 or /48, or empty when not known
    instance uuid        NOT NULL,
    count    bigint      NOT NULL,
    PRIMARY KEY (minute, route, reason, client, instance)
);

CREATE TABLE audit_log (
    id       bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at       timestamptz NOT NULL,
    actor    text        NOT NULL,
    action   text        NOT NULL,
    key_id   uuid,
    revision bigint,
    detail   text        NOT NULL
);

CREATE INDEX audit_log_by_key ON audit_log (key_id);
