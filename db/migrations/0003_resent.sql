-- What is sent again is not counted again, not even after its day was dropped:
-- a process whose batch was committed, and which did not learn of that, sends it
-- once more, whenever it can.

-- When the events of its last batch occurred; null when it had none to store.
-- Whatever was sent before that batch, the process knows to be stored.
ALTER TABLE usage_instances
    ADD COLUMN last_from  timestamptz,
    ADD COLUMN last_until timestamptz;

-- Events that were dropped with their day, and may be sent again.
CREATE TABLE usage_dropped (
    event_id    uuid        NOT NULL,
    occurred_at timestamptz NOT NULL,
    dropped_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (event_id, occurred_at)
);

-- Drops every day before this one, and lets none of them come back. How many.
CREATE OR REPLACE FUNCTION usage_drop_days(before date) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    name text;
    began timestamptz;
    process record;
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
        -- As the dropping itself does; from here on nothing is added to the day.
        LOCK TABLE ONLY usage_events IN ACCESS EXCLUSIVE MODE;
        began := to_date(right(name, 8), 'YYYYMMDD')::timestamp AT TIME ZONE 'UTC';
        FOR process IN
            SELECT instance, last_from, last_until
            FROM usage_instances
            WHERE last_until >= began AND last_from < began + interval '24 h'
        LOOP
            EXECUTE format(
                'INSERT INTO usage_dropped (event_id, occurred_at)
                SELECT event_id, occurred_at FROM %I
                WHERE instance = $1 AND occurred_at BETWEEN $2 AND $3
                ON CONFLICT DO NOTHING',
                name
            )
            USING process.instance, process.last_from, process.last_until;
        END LOOP;
        EXECUTE format('DROP TABLE %I', name);
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped;
END
$$;

-- Makes the partition of a day, unless there is one. Whether it did.
--
-- The table is made by itself and attached then: this lets other sessions go
-- on reading and writing, which CREATE TABLE ... PARTITION OF would not. It has
-- to have the checks of usage_events by then, whoever added them.
CREATE OR REPLACE FUNCTION usage_make_day(day date) RETURNS boolean
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
    EXECUTE format(
        'CREATE TABLE %I (LIKE usage_events INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', name
    );
    EXECUTE format(
        'ALTER TABLE usage_events ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
        name,
        day::timestamp AT TIME ZONE 'UTC',
        (day + 1)::timestamp AT TIME ZONE 'UTC'
    );
    RETURN true;
END
$$;

-- An entry that is sent again is found by its time.
CREATE INDEX audit_log_by_time ON audit_log (at);
