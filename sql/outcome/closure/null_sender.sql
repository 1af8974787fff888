-- Purpose: queue ids of mail without a sender that was not delivered at once, or came late: bounces of others, of which
--   nothing is to be sent again, but which a list of all mail has, too.
-- Parameters: late_after (microseconds). Reads events.
-- Columns: host, qid.
WITH unsent AS (
  SELECT DISTINCT host, qid
  FROM events
  WHERE qid <> ''
    AND (
      kind = 'expired'
      OR (kind = 'attempt' AND status <> 'sent' AND position('deliverable' IN status) = 0)
      OR (kind = 'attempt' AND status = 'sent' AND delay > (SELECT late_after FROM params))
    )
)
SELECT DISTINCT unsent.host, unsent.qid
FROM unsent
JOIN events ON events.host = unsent.host AND events.qid = unsent.qid
WHERE events.kind = 'queued' AND events.sender = ''
