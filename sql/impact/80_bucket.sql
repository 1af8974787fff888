-- Purpose: every bucket with its reasons; the counts add up to all affected mails.
-- Parameters: none. Reads affected.
-- Columns: bucket, reason, mails.
SELECT bucket, reason, count(*) AS mails
FROM affected
GROUP BY bucket, reason
ORDER BY bucket, mails DESC, reason
