-- Purpose: what one receiving system answered to the mails of an incident: each reply with its count and when.
-- Parameters: provider VARCHAR. Reads affected.
-- Columns: code, enhanced, reply, mails, first_at, last_at (microseconds UTC; NULL unknown).
SELECT
  a.code,
  a.enhanced,
  a.reply,
  count(*) AS mails,
  min(a.first_failed_at) AS first_at,
  max(a.at) AS last_at
FROM affected AS a
CROSS JOIN params
WHERE a.provider = params.provider
GROUP BY a.code, a.enhanced, a.reply
