-- Purpose: queue ids beside those in `fresh`, so that a mail is seen whole: the hop before and after, and the same
--   message-id to the same recipient under another queue id (a filter that names no queue id, a second delivery).
--   Run until nothing is new; too much is no harm, what does not belong is told apart later.
-- Parameters: none. Reads events, fresh(host, qid), said, near(host, qid).
-- Columns: host, qid.
WITH named AS (
  SELECT DISTINCT next_qid AS qid FROM said WHERE next_qid <> ''
),
naming AS (
  SELECT DISTINCT qid FROM fresh
),
known_id AS (
  SELECT DISTINCT message_id FROM said WHERE message_id NOT IN ('', '<>')
),
same_id AS (
  SELECT DISTINCT events.host, events.qid, events.message_id
  FROM events
  JOIN known_id ON known_id.message_id = events.message_id
  LEFT JOIN near ON near.host = events.host AND near.qid = events.qid
  WHERE near.qid IS NULL
),
addressed AS (
  SELECT DISTINCT ids.message_id, attempts.recipient
  FROM said AS ids
  JOIN said AS attempts ON attempts.host = ids.host AND attempts.qid = ids.qid AND attempts.kind = 'attempt'
  WHERE ids.message_id NOT IN ('', '<>')
),
found AS (
  SELECT events.host, events.qid
  FROM events
  JOIN named ON named.qid = events.qid
  WHERE events.kind IN ('begin', 'requeue', 'message', 'queued')
  UNION ALL
  SELECT events.host, events.qid
  FROM events
  JOIN naming ON naming.qid = events.next_qid
  WHERE events.kind IN ('attempt', 'begin', 'requeue') AND events.next_qid <> ''
  UNION ALL
  SELECT events.host, events.qid
  FROM events
  JOIN same_id ON same_id.host = events.host AND same_id.qid = events.qid
  JOIN addressed ON addressed.message_id = same_id.message_id AND addressed.recipient = lower(events.recipient)
  WHERE events.kind = 'attempt'
)
SELECT DISTINCT found.host, found.qid
FROM found
LEFT JOIN near ON near.host = found.host AND near.qid = found.qid
WHERE near.qid IS NULL
