-- Purpose: what was resent of each affected mail before: the newest Delivery of the same release and recipient.
-- Parameters: none. Reads frozen, past(release, rcpt_key, generation, state, fate).
-- Columns: outcome_id, release, rcpt_key, rcpt, generation (0 none), state ('' none), fate ('' none).
WITH newest AS (
  SELECT release, rcpt_key, max(generation) AS generation
  FROM past
  GROUP BY release, rcpt_key
)
SELECT
  f.outcome_id,
  f.release,
  f.rcpt_key,
  f.rcpt,
  coalesce(p.generation, 0) AS generation,
  coalesce(p.state, '') AS state,
  coalesce(p.fate, '') AS fate
FROM frozen AS f
LEFT JOIN newest AS n
  ON n.release = f.release AND n.rcpt_key = f.rcpt_key AND f.recipient_id <> '' AND f.confidence IN ('certain', 'probable')
LEFT JOIN past AS p ON p.release = n.release AND p.rcpt_key = n.rcpt_key AND p.generation = n.generation
