-- Drops the days before one, and deletes so many rows of refusals, of the
-- quarantine and of what was dropped from before a moment. How many there were.
WITH refused AS (
    DELETE FROM refusals
    WHERE ctid IN (SELECT ctid FROM refusals WHERE minute < $1::timestamptz LIMIT $2)
    RETURNING 1
), aside AS (
    DELETE FROM usage_quarantine
    WHERE ctid IN (
        SELECT ctid FROM usage_quarantine WHERE quarantined_at < $1::timestamptz LIMIT $2
    )
    RETURNING 1
), dropped AS (
    DELETE FROM usage_dropped
    WHERE ctid IN (SELECT ctid FROM usage_dropped WHERE dropped_at < $1::timestamptz LIMIT $2)
    RETURNING 1
)
SELECT (SELECT count(*) FROM refused)
    + (SELECT count(*) FROM aside)
    + (SELECT count(*) FROM dropped)
    + usage_drop_days(($1::timestamptz AT TIME ZONE 'UTC')::date)
