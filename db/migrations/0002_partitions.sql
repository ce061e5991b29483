-- The days of usage_events: made for the days that a batch contains, dropped
-- once every event in them is older than the retention.

-- The day before which nothing comes back: what is older was dropped. One row.
CREATE TABLE usage_horizon (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    day      date    NOT NULL
);
INSERT INTO usage_horizon (day) VALUES ('-infinity');

-- Making and dropping of days, one at a time in all sessions; until the end of
-- the transaction.
CREATE FUNCTION usage_lock_days() RETURNS void
LANGUAGE sql AS $$
    SELECT pg_advisory_xact_lock(hashtextextended('cypheron-edge usage days', 0))
$$;

CREATE FUNCTION usage_day_name(day date) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
    SELECT 'usage_events_' || to_char(day, 'YYYYMMDD')
$$;

-- Makes the partition of a day, unless there is one. Whether it did.
--
-- The table is made by itself and attached then: this lets other sessions go
-- on reading and writing, which CREATE TABLE ... PARTITION OF would not.
CREATE FUNCTION usage_make_day(day date) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    name text := usage_day_name(day);
BEGIN
    IF to_regclass(name) IS NOT NULL THEN
        RETURN false;
    END IF;
    PERFORM usage_lock_days();
    IF to_regclass(name) IS NOT NULL THEN
        RETURN false;
    END IF;
    EXECUTE format('CREATE TABLE %I (LIKE usage_events INCLUDING DEFAULTS)', name);
    EXECUTE format(
        'ALTER TABLE usage_events ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
        name,
        day::timestamp AT TIME ZONE 'UTC',
        (day + 1)::timestamp AT TIME ZONE 'UTC'
    );
    RETURN true;
END
$$;

-- Drops every day before this one, and lets none of them come back. How many.
CREATE FUNCTION usage_drop_days(before date) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    name text;
    dropped integer := 0;
BEGIN
    PERFORM usage_lock_days();
    UPDATE usage_horizon SET day = before WHERE day < before;
    FOR name IN
        SELECT child.relname
        FROM pg_inherits
        JOIN pg_class child ON child.oid = inhrelid
        WHERE inhparent = 'usage_events'::regclass
          AND child.relname < usage_day_name(before)
        ORDER BY child.relname
    LOOP
        EXECUTE format('DROP TABLE %I', name);
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped;
END
$$;
