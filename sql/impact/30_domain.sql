-- Purpose: what failed by recipient domain, against all mail to it.
-- Parameters: none. Reads affected, mails(dimension, value, mails).
-- Columns: dimension, value, label, mails (of all mail, NULL unknown), failed, share (0 to 1), resend.
WITH failed AS (
  SELECT
    domain AS value,
    count(*) AS failed,
    sum(CASE WHEN bucket = 'resend' THEN 1 ELSE 0 END) AS resend
  FROM affected
  GROUP BY domain
)
SELECT
  'domain' AS dimension,
  f.value,
  f.value AS label,
  m.mails,
  f.failed,
  CASE WHEN m.mails > 0 THEN f.failed * 1.0 / m.mails END AS share,
  f.resend
FROM failed AS f
LEFT JOIN mails AS m ON m.dimension = 'domain' AND m.value = f.value
ORDER BY f.failed DESC, f.value
