-- Purpose: what failed by release ('-': not linked), against all mail of it.
-- Parameters: none. Reads affected, mails(dimension, value, mails).
-- Columns: dimension, value, label, mails (of all mail, NULL unknown), failed, share (0 to 1), resend.
WITH failed AS (
  SELECT
    CASE WHEN release = '' THEN '-' ELSE release END AS value,
    max(title) AS label,
    count(*) AS failed,
    sum(CASE WHEN bucket = 'resend' THEN 1 ELSE 0 END) AS resend
  FROM affected
  GROUP BY CASE WHEN release = '' THEN '-' ELSE release END
)
SELECT
  'release' AS dimension,
  f.value,
  f.label,
  CASE WHEN m.mails >= f.failed THEN m.mails END AS mails,  -- fewer are known than failed: not all are known
  f.failed,
  CASE WHEN m.mails >= f.failed THEN f.failed * 1.0 / m.mails END AS share,
  f.resend
FROM failed AS f
LEFT JOIN mails AS m ON m.dimension = 'release' AND m.value = f.value
ORDER BY f.failed DESC, f.value
