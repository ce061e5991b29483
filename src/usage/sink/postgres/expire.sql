-- Drops the days before one, and deletes so many rows of refusals and of the
-- quarantine from before a moment. How many there were of all three.
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
)
SELECT (SELECT count(*) FROM refused)
    + (SELECT count(*) FROM aside)
    + usage_drop_days(($1::timestamptz AT TIME ZONE 'UTC')::date)
