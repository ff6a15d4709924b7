-- The tables of Vestibule's audit trail, format 1.

CREATE SCHEMA IF NOT EXISTS {schema};

-- One row for each record of the journal. `line` is the record as it stands there, byte for byte; what can be looked for is
-- copied out of it.
CREATE TABLE IF NOT EXISTS {schema}.records (
    node          text        NOT NULL, -- the journal
    epoch         integer     NOT NULL,
    seq           bigint      NOT NULL, -- its number within the epoch
    time          timestamptz NOT NULL,
    kind          text        NOT NULL, -- event, gap, recovery, segment, head, removal, close
    class_uid     integer,              -- of OCSF
    class         text,
    activity      text,
    user_id       text,                 -- who, such as gitlab:907; of a job, who started it
    login         text,
    issuer        text,
    session       text,                 -- hash of the session's handle
    client        inet,
    method        text,
    host          text,
    path          text,
    route         text,
    phase         text,                 -- request; in required mode decision and completion; of a stream stream_opened and stream_ended
    decision      text,                 -- Allowed, Denied
    disposition   text,
    policies      text[],               -- the ids of the policies that decided
    policy_digest text,
    reason        text,                 -- the code of a refusal
    status        integer,              -- of the answer
    request       text,
    trace         text,
    prev          text        NOT NULL, -- SHA-256 of the line before
    line          text        NOT NULL,
    PRIMARY KEY (node, epoch, seq, time)
) PARTITION BY RANGE (time);

CREATE INDEX IF NOT EXISTS records_time     ON {schema}.records (time);
CREATE INDEX IF NOT EXISTS records_user     ON {schema}.records (user_id, time);
CREATE INDEX IF NOT EXISTS records_login    ON {schema}.records (login, time);
CREATE INDEX IF NOT EXISTS records_route    ON {schema}.records (route, time);
CREATE INDEX IF NOT EXISTS records_request  ON {schema}.records (request);
CREATE INDEX IF NOT EXISTS records_policies ON {schema}.records USING gin (policies);

-- The signed heads once more, as the anchor outside of the proxy's machine. They are few, and outlive the records.
CREATE TABLE IF NOT EXISTS {schema}.heads (
    node      text        NOT NULL,
    epoch     integer     NOT NULL,
    seq       bigint      NOT NULL, -- the last record that is covered
    hash      text        NOT NULL, -- SHA-256 of that record's line
    time      timestamptz NOT NULL,
    key       text        NOT NULL, -- name of the key
    signature text        NOT NULL, -- Ed25519, in Base64
    line      text        NOT NULL, -- the head's own record
    PRIMARY KEY (node, epoch, seq, hash) -- a made-up head keeps no true one out
);

-- What tables of earlier versions lack.
ALTER TABLE {schema}.records ADD COLUMN IF NOT EXISTS phase text;
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_constraint c JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = ANY (c.conkey)
                   WHERE c.conrelid = '{schema}.heads'::regclass AND c.contype = 'p' AND a.attname = 'hash') THEN
        ALTER TABLE {schema}.heads DROP CONSTRAINT heads_pkey, ADD PRIMARY KEY (node, epoch, seq, hash);
    END IF;
END $$;

-- What is of no day that has a partition, such as of a clock that was years ahead.
CREATE TABLE IF NOT EXISTS {schema}.records_other PARTITION OF {schema}.records DEFAULT;

-- Makes the partition of a day of UTC. It runs with the rights of its owner, so that whoever adds records need own nothing. Of
-- days more than 400 days away it makes none, so that nobody can make partitions without end: `records_other` takes those.
CREATE OR REPLACE FUNCTION {schema}.add_day(day date) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    part text := 'records_' || to_char(day, 'YYYYMMDD');
    begun timestamptz := day::timestamp AT TIME ZONE 'UTC';
    ended timestamptz := (day + 1)::timestamp AT TIME ZONE 'UTC';
BEGIN
    IF day NOT BETWEEN current_date - 400 AND current_date + 400 THEN
        RETURN;
    END IF;
    IF to_regclass('{schema}.' || part) IS NOT NULL THEN
        RETURN;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('{schema}.records', 0));
    IF to_regclass('{schema}.' || part) IS NOT NULL THEN
        RETURN;
    END IF;
    IF to_regclass('{schema}.records_other') IS NOT NULL THEN
        IF EXISTS (SELECT FROM {schema}.records_other WHERE time >= begun AND time < ended) THEN
            RETURN; -- what came too early for its day stays there, and the rest joins it
        END IF;
    END IF;
    EXECUTE format('CREATE TABLE {schema}.%I (LIKE {schema}.records INCLUDING DEFAULTS)', part);
    EXECUTE format('ALTER TABLE {schema}.records ATTACH PARTITION {schema}.%I FOR VALUES FROM (%L) TO (%L)', part, begun, ended);
END $$;

-- Which tables these are: the revision goes up with what earlier versions can write to nonetheless.
CREATE OR REPLACE FUNCTION {schema}.audit_format() RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT 1';
CREATE OR REPLACE FUNCTION {schema}.audit_revision() RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT 2';

REVOKE ALL ON FUNCTION {schema}.add_day(date) FROM PUBLIC;
