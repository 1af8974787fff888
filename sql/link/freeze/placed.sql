-- Purpose: the frozen mails with the bucket and the reason of now.
-- Parameters: none. Reads frozen, facts, judged (distinct facts with bucket and reason).
-- Columns: those of frozen but bucket and reason, then bucket, reason, generation, folded (the address as vetoes
--   compare it). For DuckDB (EXCLUDE).
SELECT
  f.* EXCLUDE (bucket, reason, generation, folded),
  j.bucket,
  j.reason,
  k.generation,
  n.folded
FROM frozen AS f
JOIN facts AS k ON k.outcome_id = f.outcome_id
JOIN key_of AS n ON n.outcome_id = f.outcome_id
JOIN judged AS j
  ON j.folded = k.folded
  AND j.past_state = k.past_state
  AND j.past_fate = k.past_fate
  AND j.status = k.status
  AND j.maybe_delivered = k.maybe_delivered
  AND j.confidence = k.confidence
  AND j.doubt = k.doubt
  AND j.cause = k.cause
  AND j.action = k.action
  AND j.verdict_rule = k.verdict_rule
  AND j.verdict_reason = k.verdict_reason
  AND j.suppressed = k.suppressed
  AND j.withdrawn = k.withdrawn
  AND j.expired = k.expired
  AND j.held = k.held
  AND j.arrived = k.arrived
  AND j.embargo = k.embargo
  AND j.too_early = k.too_early
  AND j.content = k.content
