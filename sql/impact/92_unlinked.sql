-- Purpose: the mails that no rule linked, each with the nearest miss.
-- Parameters: none. Reads affected.
-- Columns: evidence, arrived_at (microseconds UTC), recipient, sender, message_id, rule ('' none found anything), nearest
--   (what it found), doubt (what kept it from being a link).
SELECT
  evidence,
  arrived_at,
  rcpt_key AS recipient,
  sender,
  message_id,
  link_rule AS rule,
  link_evidence AS nearest,
  doubt
FROM affected
WHERE bucket = 'unlinked'
ORDER BY outcome_id
LIMIT 20000
