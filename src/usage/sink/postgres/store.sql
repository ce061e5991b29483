-- Stores the events that are not there yet, and adds these, and only these, to
-- the sums. How many they are.
WITH given AS (
    SELECT *
    FROM unnest(
        $2::uuid[], $3::timestamptz[], $4::uuid[], $5::text[], $6::text[], $7::smallint[],
        $8::text[], $9::text[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[],
        $14::inet[]
    ) AS given (
        event_id, occurred_at, key_id, route, method, status, outcome, ended, request_bytes,
        response_bytes, duration_us, upstream_us, client_ip
    )
), new AS (
    INSERT INTO usage_events (
        event_id, occurred_at, key_id, route, method, status, outcome, ended, request_bytes,
        response_bytes, duration_us, upstream_us, client_ip, instance
    )
    SELECT given.*, $1::uuid
    FROM given
    WHERE NOT EXISTS (
        SELECT FROM usage_quarantine aside
        WHERE aside.event_id = given.event_id AND aside.occurred_at = given.occurred_at
    )
    ON CONFLICT DO NOTHING
    RETURNING
        occurred_at, key_id, route, outcome, ended, request_bytes, response_bytes, duration_us
), hourly AS (
    INSERT INTO usage_hourly AS kept (
        hour, key_id, route, requests, refused, request_bytes, response_bytes, duration_us, last_at
    )
    SELECT
        date_trunc('hour', occurred_at, 'UTC') AS hour, key_id, route, count(*),
        count(*) FILTER (WHERE outcome <> 'admitted'), sum(request_bytes), sum(response_bytes),
        sum(duration_us), max(occurred_at)
    FROM new
    GROUP BY hour, key_id, route
    -- In one order everywhere, so that two edges never wait for each other; but
    -- for those that look for events to put aside.
    ORDER BY hour, key_id, route
    ON CONFLICT (hour, key_id, route) DO UPDATE SET
        requests = kept.requests + excluded.requests,
        refused = kept.refused + excluded.refused,
        request_bytes = kept.request_bytes + excluded.request_bytes,
        response_bytes = kept.response_bytes + excluded.response_bytes,
        duration_us = kept.duration_us + excluded.duration_us,
        last_at = greatest(kept.last_at, excluded.last_at)
    RETURNING 1
), totals AS (
    INSERT INTO key_totals AS kept (key_id, usage_count, last_used)
    SELECT key_id, count(*), max(occurred_at)
    -- Once every hour is added to, and in one order, for the same reason.
    FROM new, (SELECT count(*) FROM hourly) AS hours
    GROUP BY key_id
    ORDER BY key_id
    ON CONFLICT (key_id) DO UPDATE SET
        usage_count = kept.usage_count + excluded.usage_count,
        last_used = greatest(kept.last_used, excluded.last_used)
), counted AS (
    SELECT count(*) AS new, count(*) FILTER (WHERE ended = 'interrupted') AS interrupted
    FROM new
), instance AS (
    INSERT INTO usage_instances AS kept (instance, stored, interrupted, quarantined, updated_at)
    SELECT $1::uuid, new - interrupted, interrupted, 0, now()
    FROM counted
    ON CONFLICT (instance) DO UPDATE SET
        stored = kept.stored + excluded.stored,
        interrupted = kept.interrupted + excluded.interrupted,
        updated_at = excluded.updated_at
)
SELECT new FROM counted
