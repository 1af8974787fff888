-- Purpose: all mail of the window, what of it failed or came late, what would be resent.
-- Parameters: none. Reads affected, mails(dimension, value, mails).
-- Columns: dimension, value, label, mails (of all mail, NULL unknown), failed, share (0 to 1), resend.
WITH failed AS (
  SELECT count(*) AS failed, sum(CASE WHEN bucket = 'resend' THEN 1 ELSE 0 END) AS resend FROM affected
)
SELECT
  'total' AS dimension,
  'all' AS value,
  'all' AS label,
  m.mails,
  f.failed,
  CASE WHEN m.mails > 0 THEN f.failed * 1.0 / m.mails END AS share,
  coalesce(f.resend, 0) AS resend
FROM failed AS f
LEFT JOIN mails AS m ON m.dimension = 'total'
