-- Purpose: what failed by customer ('-': not linked), against all mail of that customer.
-- Parameters: none. Reads affected, mails(dimension, value, mails).
-- Columns: dimension, value, label, mails (of all mail, NULL unknown), failed, share (0 to 1), resend.
WITH failed AS (
  SELECT
    CASE WHEN customer = '' THEN '-' ELSE customer END AS value,
    max(customer_name) AS label,
    count(*) AS failed,
    sum(CASE WHEN bucket = 'resend' THEN 1 ELSE 0 END) AS resend
  FROM affected
  GROUP BY CASE WHEN customer = '' THEN '-' ELSE customer END
)
SELECT
  'customer' AS dimension,
  f.value,
  f.label,
  CASE WHEN m.mails >= f.failed THEN m.mails END AS mails,  -- fewer are known than failed: not all are known
  f.failed,
  CASE WHEN m.mails >= f.failed THEN f.failed * 1.0 / m.mails END AS share,
  f.resend
FROM failed AS f
LEFT JOIN mails AS m ON m.dimension = 'customer' AND m.value = f.value
ORDER BY f.failed DESC, f.value
