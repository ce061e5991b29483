-- Adds to the sums what events come to that are all new.
WITH given AS (
    SELECT *
    FROM unnest(
        $4::timestamptz[], $5::uuid[], $6::text[], $7::bigint[], $8::bigint[], $9::bigint[],
        $10::bigint[], $11::bigint[], $12::timestamptz[]
    ) AS given (
        hour, key_id, route, requests, refused, request_bytes, response_bytes, duration_us, last_at
    )
), hourly AS (
    INSERT INTO usage_hourly AS kept (
        hour, key_id, route, requests, refused, request_bytes, response_bytes, duration_us, last_at
    )
    SELECT * FROM given
    -- In one order everywhere: two edges never wait for each other.
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
    SELECT key_id, sum(requests), max(last_at)
    -- Once every hour is added to, and in one order, for the same reason.
    FROM given, (SELECT count(*) FROM hourly) AS hours
    GROUP BY key_id
    ORDER BY key_id
    ON CONFLICT (key_id) DO UPDATE SET
        usage_count = kept.usage_count + excluded.usage_count,
        last_used = greatest(kept.last_used, excluded.last_used)
)
INSERT INTO usage_instances AS kept (instance, stored, interrupted, quarantined, updated_at)
VALUES ($1::uuid, $2::bigint, $3::bigint, 0, now())
ON CONFLICT (instance) DO UPDATE SET
    stored = kept.stored + excluded.stored,
    interrupted = kept.interrupted + excluded.interrupted,
    updated_at = excluded.updated_at
