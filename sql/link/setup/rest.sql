-- Purpose: the outcomes that no rule linked for certain, with the best of what the rules found, else with nothing.
-- Parameters: none. Reads open_outcome, trial(outcome_id, release, recipient_id, rule, confidence, candidates, evidence,
--   doubt).
-- Columns: outcome_id, release, recipient_id, rule, confidence, candidates, evidence, doubt.
WITH ranked AS (
  SELECT
    trial.*,
    row_number() OVER (
      PARTITION BY outcome_id
      ORDER BY CASE confidence WHEN 'probable' THEN 1 WHEN 'ambiguous' THEN 2 ELSE 3 END, rule, release, recipient_id
    ) AS place
  FROM trial
)
SELECT
  o.outcome_id,
  coalesce(r.release, '') AS release,
  coalesce(r.recipient_id, '') AS recipient_id,
  coalesce(r.rule, '') AS rule,
  coalesce(r.confidence, 'none') AS confidence,
  coalesce(r.candidates, 0) AS candidates,
  coalesce(r.evidence, o.evidence) AS evidence,
  coalesce(r.doubt, 'no rule names a release') AS doubt
FROM open_outcome AS o
LEFT JOIN ranked AS r ON r.outcome_id = o.outcome_id AND r.place = 1
