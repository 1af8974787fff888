-- Purpose: what the lines of the queue ids in `fresh` say of other queue ids: the next one, the message-id, the recipients.
-- Parameters: none. Reads events, fresh(host, qid).
-- Columns: host, qid, kind, recipient (lower case), next_qid, message_id.
SELECT DISTINCT
  events.host,
  events.qid,
  events.kind,
  lower(events.recipient) AS recipient,
  events.next_qid,
  events.message_id
FROM events
JOIN fresh ON fresh.host = events.host AND fresh.qid = events.qid
WHERE events.kind = 'attempt'
  OR events.message_id <> ''
  OR (events.kind IN ('begin', 'requeue') AND events.next_qid <> '')
