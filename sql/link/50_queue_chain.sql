-- Purpose: another recipient of the very same queued message is linked, so this one is of that release too. (The hops of
--   a chain are one outcome already: the rules before see the message-id of whichever hop logged it.)
-- Parameters: none. Reads open_outcome, outcome, link.
-- Columns: outcome_id, release, recipient_id (''), evidence.
SELECT
  o.outcome_id,
  l.release,
  '' AS recipient_id,
  concat(min(o.evidence), ' same queued message ', min(o.qid)) AS evidence
FROM open_outcome AS o
JOIN outcome AS other
  ON other.host = o.host AND other.instance = o.instance AND other.qid = o.qid AND other.epoch = o.epoch
JOIN link AS l ON l.outcome_id = other.outcome_id
WHERE o.qid <> '' AND l.confidence = 'certain'
GROUP BY o.outcome_id, l.release
