-- Purpose: frozen mails that had not arrived when the incident was opened, and of which the evidence of today says that
--   they did: the same message-id and address, or the same queue id and arrival where no message-id was logged.
-- Parameters: none. Reads frozen, suspect (linker/outcomes of today).
-- Columns: outcome_id (of frozen), release, rcpt_key, rcpt, evidence.
SELECT f.outcome_id, min(f.release) AS release, min(f.rcpt_key) AS rcpt_key, min(f.rcpt) AS rcpt, min(s.evidence) AS evidence
FROM frozen AS f
JOIN suspect AS s
  ON lower(s.recipient) = lower(f.recipient)
  AND s.message_id = f.message_id
  AND (f.message_id NOT IN ('', '<>') OR (s.host = f.host AND s.qid = f.qid AND s.arrived_at = f.arrived_at))
WHERE f.status NOT IN ('delivered', 'delivered_late')
  AND s.status IN ('delivered', 'delivered_late')
  AND f.recipient_id <> ''
  AND f.confidence IN ('certain', 'probable')  -- else the release and recipient are another mail's
GROUP BY f.outcome_id
