-- What each key was used for since its first day: it stays when events and
-- their hours go. Fed by the statements that feed usage_hourly, after it.

CREATE TABLE key_totals (
    key_id      uuid        PRIMARY KEY,
    usage_count bigint      NOT NULL,
    last_used   timestamptz NOT NULL,
    told_count  bigint      NOT NULL DEFAULT 0 -- the usage_count that the key's record has
)
-- No index has what changes: an update stays in its page while there is room.
WITH (fillfactor = 70);

-- Of what is stored while this runs, all is counted here or none.
LOCK TABLE usage_hourly IN SHARE ROW EXCLUSIVE MODE;

INSERT INTO key_totals (key_id, usage_count, last_used)
SELECT key_id, sum(requests), max(last_at)
FROM usage_hourly
GROUP BY key_id;
