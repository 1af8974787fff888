-- Purpose: what the lines of the queue ids in `fresh` say of other queue ids: the next one, the message-id, the recipients.
-- Parameters: none. Reads seen (events of the queue ids that were found so far), fresh(host, qid).
-- Columns: host, qid, kind, recipient (lower case), next_qid, message_id.
SELECT DISTINCT
  seen.host,
  seen.qid,
  seen.kind,
  lower(seen.recipient) AS recipient,
  seen.next_qid,
  seen.message_id
FROM seen
JOIN fresh ON fresh.host = seen.host AND fresh.qid = seen.qid
WHERE seen.kind = 'attempt'
  OR seen.message_id <> ''
  OR (seen.kind IN ('begin', 'requeue') AND seen.next_qid <> '')
