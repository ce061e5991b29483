-- Sets the counts of refusals. Reasons that a column cannot tell apart are summed.
INSERT INTO refusals (minute, route, reason, client, instance, count)
SELECT
    minute, route, reason, client, $1, least(sum(count), 9223372036854775807)::bigint
FROM unnest($2::timestamptz[], $3::text[], $4::text[], $5::text[], $6::bigint[])
    AS given (minute, route, reason, client, count)
GROUP BY minute, route, reason, client
ON CONFLICT (minute, route, reason, client, instance) DO UPDATE SET count = excluded.count
