-- What the migrations result in; written by scripts/prepare-queries.

CREATE FUNCTION public.usage_day_name(day date) RETURNS text
    LANGUAGE sql IMMUTABLE
    AS $$
    SELECT 'usage_events_' || to_char(day, 'YYYYMMDD')
$$;

CREATE FUNCTION public.usage_drop_days(before date) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
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

CREATE FUNCTION public.usage_keep_last(name text, since timestamp with time zone) RETURNS void
    LANGUAGE plpgsql
    AS $_$
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
$_$;

CREATE FUNCTION public.usage_lock_days() RETURNS void
    LANGUAGE sql
    AS $$
    SELECT pg_advisory_xact_lock(hashtextextended('cypheron-edge usage days', 0))
$$;

CREATE FUNCTION public.usage_make_day(day date) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
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

CREATE TABLE public.audit_log (
    id bigint NOT NULL,
    at timestamp with time zone NOT NULL,
    actor text NOT NULL,
    action text NOT NULL,
    key_id uuid,
    revision bigint,
    detail text NOT NULL
);

ALTER TABLE public.audit_log ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.audit_log_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.key_totals (
    key_id uuid NOT NULL,
    usage_count bigint NOT NULL,
    last_used timestamp with time zone NOT NULL,
    told_count bigint DEFAULT 0 NOT NULL
)
WITH (fillfactor='70');

CREATE TABLE public.refusals (
    minute timestamp with time zone NOT NULL,
    route text NOT NULL,
    reason text NOT NULL,
    client text NOT NULL,
    instance uuid NOT NULL,
    count bigint NOT NULL
);

CREATE TABLE public.usage_dropped (
    event_id uuid NOT NULL,
    occurred_at timestamp with time zone NOT NULL,
    dropped_at timestamp with time zone DEFAULT now() NOT NULL
);

CREATE TABLE public.usage_events (
    event_id uuid NOT NULL,
    occurred_at timestamp with time zone NOT NULL,
    key_id uuid NOT NULL,
    route text NOT NULL,
    method text NOT NULL,
    status smallint NOT NULL,
    outcome text NOT NULL,
    ended text NOT NULL,
    request_bytes bigint NOT NULL,
    response_bytes bigint NOT NULL,
    duration_us bigint NOT NULL,
    upstream_us bigint NOT NULL,
    client_ip inet,
    instance uuid NOT NULL
)
PARTITION BY RANGE (occurred_at);

CREATE TABLE public.usage_horizon (
    only_row boolean DEFAULT true NOT NULL,
    day date NOT NULL,
    CONSTRAINT usage_horizon_only_row_check CHECK (only_row)
);

CREATE TABLE public.usage_hourly (
    hour timestamp with time zone NOT NULL,
    key_id uuid NOT NULL,
    route text NOT NULL,
    requests bigint NOT NULL,
    refused bigint NOT NULL,
    request_bytes numeric NOT NULL,
    response_bytes numeric NOT NULL,
    duration_us numeric NOT NULL,
    last_at timestamp with time zone NOT NULL
)
WITH (fillfactor='50');

CREATE TABLE public.usage_instances (
    instance uuid NOT NULL,
    stored bigint NOT NULL,
    interrupted bigint NOT NULL,
    quarantined bigint NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    last_from timestamp with time zone,
    last_until timestamp with time zone,
    last_ids uuid[]
);

CREATE TABLE public.usage_quarantine (
    event_id uuid NOT NULL,
    occurred_at timestamp with time zone NOT NULL,
    key_id uuid NOT NULL,
    route text NOT NULL,
    method text NOT NULL,
    status smallint NOT NULL,
    outcome text NOT NULL,
    ended text NOT NULL,
    request_bytes bigint NOT NULL,
    response_bytes bigint NOT NULL,
    duration_us bigint NOT NULL,
    upstream_us bigint NOT NULL,
    client_ip inet,
    instance uuid NOT NULL,
    reason text NOT NULL,
    quarantined_at timestamp with time zone DEFAULT now() NOT NULL
);

CREATE TABLE public.usage_writers (
    instance uuid NOT NULL,
    writer integer NOT NULL,
    decided bigint NOT NULL,
    dropped bigint NOT NULL
);

ALTER TABLE ONLY public.audit_log
    ADD CONSTRAINT audit_log_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.key_totals
    ADD CONSTRAINT key_totals_pkey PRIMARY KEY (key_id);

ALTER TABLE ONLY public.refusals
    ADD CONSTRAINT refusals_pkey PRIMARY KEY (minute, route, reason, client, instance);

ALTER TABLE ONLY public.usage_dropped
    ADD CONSTRAINT usage_dropped_pkey PRIMARY KEY (event_id, occurred_at);

ALTER TABLE ONLY public.usage_events
    ADD CONSTRAINT usage_events_pkey PRIMARY KEY (event_id, occurred_at);

ALTER TABLE ONLY public.usage_horizon
    ADD CONSTRAINT usage_horizon_pkey PRIMARY KEY (only_row);

ALTER TABLE ONLY public.usage_hourly
    ADD CONSTRAINT usage_hourly_pkey PRIMARY KEY (hour, key_id, route);

ALTER TABLE ONLY public.usage_instances
    ADD CONSTRAINT usage_instances_pkey PRIMARY KEY (instance);

ALTER TABLE ONLY public.usage_quarantine
    ADD CONSTRAINT usage_quarantine_pkey PRIMARY KEY (event_id, occurred_at);

ALTER TABLE ONLY public.usage_writers
    ADD CONSTRAINT usage_writers_pkey PRIMARY KEY (instance, writer);

CREATE INDEX audit_log_by_key ON public.audit_log USING btree (key_id);

CREATE INDEX audit_log_by_time ON public.audit_log USING btree (at);

CREATE INDEX usage_dropped_by_end ON public.usage_dropped USING btree (dropped_at);

CREATE INDEX usage_events_by_time ON ONLY public.usage_events USING brin (occurred_at);

CREATE INDEX usage_quarantine_by_end ON public.usage_quarantine USING btree (quarantined_at);

