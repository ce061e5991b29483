-- ?1 microseconds of a period, ?2 from, ?3 until, ?4 key or null, ?5 route or null
WITH ranked AS (
    SELECT
        occurred_at / ?1 * ?1 AS at, key_id, route, outcome,
        request_bytes, response_bytes, duration_us,
        row_number() OVER (
            PARTITION BY occurred_at / ?1, key_id, route, outcome ORDER BY duration_us
        ) AS rank,
        count(*) OVER (PARTITION BY occurred_at / ?1, key_id, route, outcome) AS requests
    FROM usage_events
    WHERE occurred_at >= ?2 AND occurred_at < ?3
        AND (?4 IS NULL OR key_id = ?4)
        AND (?5 IS NULL OR route = ?5)
)
SELECT
    at, key_id, route, outcome, requests,
    sum(request_bytes), sum(response_bytes),
    max(CASE WHEN rank = (requests * 50 + 99) / 100 THEN duration_us END),
    max(CASE WHEN rank = (requests * 95 + 99) / 100 THEN duration_us END),
    max(CASE WHEN rank = (requests * 99 + 99) / 100 THEN duration_us END)
FROM ranked
GROUP BY at, key_id, route, outcome
ORDER BY at, key_id, route, outcome
