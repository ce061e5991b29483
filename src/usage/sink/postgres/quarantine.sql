-- Puts aside the events that are nowhere yet. How many they are.
WITH given AS (
    SELECT *
    FROM unnest(
        $2::uuid[], $3::timestamptz[], $4::uuid[], $5::text[], $6::text[], $7::smallint[],
        $8::text[], $9::text[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[],
        $14::inet[], $15::text[]
    ) AS given (
        event_id, occurred_at, key_id, route, method, status, outcome, ended, request_bytes,
        response_bytes, duration_us, upstream_us, client_ip, reason
    )
), new AS (
    INSERT INTO usage_quarantine (
        event_id, occurred_at, key_id, route, method, status, outcome, ended, request_bytes,
        response_bytes, duration_us, upstream_us, client_ip, reason, instance
    )
    SELECT given.*, $1::uuid
    FROM given
    WHERE NOT EXISTS (
        SELECT FROM usage_events stored
        WHERE stored.event_id = given.event_id AND stored.occurred_at = given.occurred_at
    )
    -- Nor were they stored once, and dropped with their day.
    AND NOT EXISTS (
        SELECT FROM usage_dropped dropped
        WHERE dropped.event_id = given.event_id AND dropped.occurred_at = given.occurred_at
    )
    ON CONFLICT DO NOTHING
    RETURNING ended
), counted AS (
    SELECT count(*) AS new, count(*) FILTER (WHERE ended = 'interrupted') AS interrupted
    FROM new
), instance AS (
    INSERT INTO usage_instances AS kept (instance, stored, interrupted, quarantined, updated_at)
    SELECT $1::uuid, new - interrupted, interrupted, new, now()
    FROM counted
    ON CONFLICT (instance) DO UPDATE SET
        stored = kept.stored + excluded.stored,
        interrupted = kept.interrupted + excluded.interrupted,
        quarantined = kept.quarantined + excluded.quarantined,
        updated_at = excluded.updated_at
)
SELECT new FROM counted
