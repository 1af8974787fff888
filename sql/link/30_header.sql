-- Purpose: the log names the release by a header (`[link] header`); the recipient is whoever has the address.
-- Parameters: header VARCHAR, the header's name in lower case. Reads open_outcome.
-- Columns: outcome_id, release, recipient_id (''), evidence.
WITH logged AS (
  SELECT
    o.outcome_id,
    o.evidence,
    CASE
      WHEN position(':' IN o.header_value) = 0 THEN o.header_value
      WHEN lower(split_part(o.header_value, ':', 1)) = params.header
        THEN trim(substring(o.header_value, position(':' IN o.header_value) + 1))
      ELSE ''
    END AS release
  FROM open_outcome AS o
  CROSS JOIN params
  WHERE o.header_value <> ''
)
SELECT
  outcome_id,
  release,
  '' AS recipient_id,
  concat(evidence, ' logged header ', release) AS evidence
FROM logged
WHERE release <> ''
