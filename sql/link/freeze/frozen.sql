-- Purpose: the mails of the incident with their verdicts, in the columns of the frozen file; bucket and reason come later.
-- Parameters: none. Reads candidate_mail, verdict_of(provider, wording, cause, cause_rule, scope, retry_after, code, action,
--   verdict_rule, verdict_reason, wait_us).
-- Columns: those of candidate_mail but in_selection, then action, verdict_rule, verdict_reason, bucket (''), reason (''),
--   generation (0), folded (''), not_before, identity_hint. For DuckDB (EXCLUDE).
SELECT
  m.* EXCLUDE (in_selection, wording),
  v.action,
  v.verdict_rule,
  v.verdict_reason,
  '' AS bucket,
  '' AS reason,
  0 AS generation,
  '' AS folded,
  m.at + v.wait_us AS not_before,
  CASE WHEN m.message_id <> '' AND m.sent_at IS NOT NULL THEN 'same' ELSE '' END AS identity_hint
FROM candidate_mail AS m
JOIN verdict_of AS v
  ON v.provider = m.provider
  AND v.wording = m.wording
  AND v.cause = m.cause
  AND v.cause_rule = m.cause_rule
  AND v.scope = m.scope
  AND v.retry_after IS NOT DISTINCT FROM m.retry_after
  AND v.code = m.code
WHERE m.in_selection
