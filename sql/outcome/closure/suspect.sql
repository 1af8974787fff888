-- Purpose: where to look closer: queue ids in which something was not delivered at once, or came late. Mail delivered in
--   time stays out.
-- Parameters: late_after (microseconds). Reads events.
-- Columns: host, qid.
SELECT DISTINCT host, qid
FROM events
WHERE qid <> ''
  AND (
    kind = 'expired'
    OR (kind = 'attempt' AND status <> 'sent' AND position('deliverable' IN status) = 0)
    OR (kind = 'attempt' AND status = 'sent' AND delay > (SELECT late_after FROM params))
  )
