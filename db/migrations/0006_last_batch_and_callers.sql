-- What is dropped with its day is copied before anybody has to wait for it, and
-- no more of it than may be sent again; and the functions that make and drop
-- days are safe to be called by roles that own nothing.

-- The events of a process's last batch that occurred more than ten seconds
-- before `last_until`; null when there were none. What is told of the others by
-- their time is bounded with it, however long a request of that batch took.
ALTER TABLE usage_instances ADD COLUMN last_ids uuid[];

-- Both end by these.
CREATE INDEX usage_dropped_by_end ON usage_dropped (dropped_at);
CREATE INDEX usage_quarantine_by_end ON usage_quarantine (quarantined_at);

-- The functions below run as their owner, for callers who own nothing: what
-- they name is found here and in pg_catalog, and in nothing of the caller's.
DO $$ BEGIN
    PERFORM set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);
END $$;

-- Copies what may be sent again of a day: of the last batches of the processes
-- that were heard of since a moment.
CREATE FUNCTION usage_keep_last(name text, since timestamptz) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    began timestamptz := to_date(right(name, 8), 'YYYYMMDD')::timestamp AT TIME ZONE 'UTC';
    process record;
BEGIN
    FOR process IN
        SELECT instance, last_until, last_ids,
            -- A build from before this migration tells a wider range, and no ids.
            greatest(last_from, last_until - interval '10 s') AS recent
        FROM usage_instances
        WHERE last_until >= began AND last_from < began + interval '24 h'
            AND updated_at >= since
    LOOP
        EXECUTE pg_catalog.format(
            'INSERT INTO usage_dropped (event_id, occurred_at)
            SELECT event_id, occurred_at FROM %1$I
            WHERE instance = $1 AND occurred_at BETWEEN $2 AND $3
            UNION
            SELECT event_id, occurred_at FROM %1$I
            WHERE instance = $1 AND event_id = ANY ($4)
            ON CONFLICT DO NOTHING',
            name
        )
        USING process.instance, process.recent, process.last_until, process.last_ids;
    END LOOP;
END
$$;

-- Drops days before this one, the oldest first and so many that it is soon
-- done, and lets none of them come back. How many.
CREATE OR REPLACE FUNCTION usage_drop_days(before date) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    names text[];
    name text;
BEGIN
    IF before > (now() AT TIME ZONE 'UTC')::date THEN
        RAISE EXCEPTION 'days that are not over are not dropped: %', before;
    END IF;
    SELECT array_agg(days.relname ORDER BY days.relname) INTO names
    FROM (
        SELECT child.relname
        FROM pg_inherits
        JOIN pg_class child ON child.oid = inhrelid
        WHERE inhparent = 'usage_events'::regclass
            AND child.relname < usage_day_name(before)
        ORDER BY child.relname
        LIMIT 10
    ) AS days;
    names := coalesce(names, '{}');
    -- Nobody waits for this.
    FOREACH name IN ARRAY names LOOP
        PERFORM usage_keep_last(name, '-infinity');
    END LOOP;
    PERFORM usage_lock_days();
    UPDATE usage_horizon SET day = before WHERE day < before;
    IF names = '{}' THEN
        RETURN 0;
    END IF;
    -- As the dropping itself does; from here on nothing is added to the days.
    -- What was meanwhile is of transactions that began within the hour, which is
    -- the longest that one may take.
    LOCK TABLE ONLY usage_events IN ACCESS EXCLUSIVE MODE;
    FOREACH name IN ARRAY names LOOP
        PERFORM usage_keep_last(name, now() - interval '1 h');
        EXECUTE pg_catalog.format('DROP TABLE %I', name);
    END LOOP;
    RETURN cardinality(names);
END
$$;

-- Makes the partition of a day, unless there is one. Whether it did.
--
-- The table is made by itself and attached then: this lets other sessions go
-- on reading and writing, which CREATE TABLE ... PARTITION OF would not. It has
-- to have the checks of usage_events by then, whoever added them.
CREATE OR REPLACE FUNCTION usage_make_day(day date) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    name text := usage_day_name(day);
BEGIN
    -- The others have no name of eight digits, by which days are in order.
    IF day NOT BETWEEN '1970-01-01' AND '9999-12-30' THEN
        RAISE EXCEPTION 'no day of usage: %', day;
    END IF;
    IF to_regclass(name) IS NOT NULL THEN
        RETURN false;
    END IF;
    PERFORM usage_lock_days();
    IF to_regclass(name) IS NOT NULL THEN
        RETURN false;
    END IF;
    EXECUTE pg_catalog.format(
        'CREATE TABLE %I (LIKE usage_events INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', name
    );
    EXECUTE pg_catalog.format(
        'ALTER TABLE usage_events ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
        name,
        day::timestamp AT TIME ZONE 'UTC',
        (day + 1)::timestamp AT TIME ZONE 'UTC'
    );
    RETURN true;
END
$$;

-- Who may call them is granted by name.
REVOKE EXECUTE ON FUNCTION
    usage_make_day(date), usage_drop_days(date), usage_keep_last(text, timestamptz)
    FROM PUBLIC;
