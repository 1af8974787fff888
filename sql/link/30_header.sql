-- Purpose: the log names the release by a header (`[link] header`); the recipient is whoever has the address.
-- Parameters: none. Reads open_outcome.
-- Columns: outcome_id, release, recipient_id (''), evidence.
SELECT
  outcome_id,
  header_value AS release,
  '' AS recipient_id,
  concat(evidence, ' logged header ', header_value) AS evidence
FROM open_outcome
WHERE header_value <> ''
