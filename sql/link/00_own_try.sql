-- Purpose: our own resends, which are no originals: the queue id that our relay gave a try, or a Message-ID of ours.
-- Parameters: none. Reads open_outcome, own_try(remote_qid, message_id ('' unless made by us), address, at_us, release,
--   recipient_id).
-- Columns: outcome_id, release, recipient_id, evidence.
SELECT
  o.outcome_id,
  t.release,
  t.recipient_id,
  concat(o.evidence, ' our try, queue id ', t.remote_qid) AS evidence
FROM open_outcome AS o
JOIN own_try AS t ON t.remote_qid = o.qid AND t.address = o.address
WHERE t.remote_qid <> ''
  AND o.arrived_at BETWEEN t.at_us - 86400000000 AND t.at_us + 86400000000  -- a day: queue ids are reused
UNION
SELECT
  o.outcome_id,
  t.release,
  t.recipient_id,
  concat(o.evidence, ' our message-id ', o.message_id) AS evidence
FROM open_outcome AS o
JOIN own_try AS t ON t.message_id = o.bare_id
WHERE t.message_id <> ''
