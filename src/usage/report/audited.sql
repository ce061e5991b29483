-- Of each key: how often each revision was set out for, and how often that came
-- to nothing.
WITH page AS (
    SELECT DISTINCT key_id FROM audit_log
    WHERE key_id > ?1 AND key_id <= ?2 AND revision IS NOT NULL AND action <> 'reveal'
    ORDER BY key_id LIMIT ?3
),
writes AS (
    SELECT
        key_id, revision,
        max(CASE WHEN action <> 'failed' THEN id END) AS entry,
        sum(action <> 'failed') > sum(action = 'failed') AS stands,
        max(action = 'revoke') AS revokes,
        max(action = 'delete') AS deletes
    FROM audit_log
    WHERE key_id IN (SELECT key_id FROM page) AND revision IS NOT NULL AND action <> 'reveal'
    GROUP BY key_id, revision
),
audited AS (
    SELECT
        key_id, max(revision) AS highest,
        max(CASE WHEN stands THEN revision END) AS standing,
        max(CASE WHEN revokes THEN revision END) AS revoked,
        max(CASE WHEN deletes THEN revision END) AS deleted
    FROM writes
    GROUP BY key_id
)
SELECT
    audited.key_id, audited.highest, audited.revoked, audited.deleted,
    writes.revision, audit_log.action, audit_log.at, audit_log.actor, audit_log.detail
FROM audited
LEFT JOIN writes ON writes.key_id = audited.key_id AND writes.revision = audited.standing
LEFT JOIN audit_log ON audit_log.id = writes.entry
ORDER BY audited.key_id
