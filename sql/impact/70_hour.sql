-- Purpose: what failed by hour of arrival (its begin in microseconds UTC), against all mail that arrived then.
-- Parameters: none. Reads affected, mails(dimension, value, mails).
-- Columns: dimension, value, label, mails (of all mail, NULL unknown), failed, share (0 to 1), resend.
WITH failed AS (
  SELECT
    CAST(coalesce(arrived_at, first_failed_at) - coalesce(arrived_at, first_failed_at) % 3600000000 AS VARCHAR) AS value,
    count(*) AS failed,
    sum(CASE WHEN bucket = 'resend' THEN 1 ELSE 0 END) AS resend
  FROM affected
  GROUP BY CAST(coalesce(arrived_at, first_failed_at) - coalesce(arrived_at, first_failed_at) % 3600000000 AS VARCHAR)
)
SELECT
  'hour' AS dimension,
  f.value,
  f.value AS label,
  m.mails,
  f.failed,
  CASE WHEN m.mails > 0 THEN f.failed * 1.0 / m.mails END AS share,
  f.resend
FROM failed AS f
LEFT JOIN mails AS m ON m.dimension = 'hour' AND m.value = f.value
ORDER BY f.value
