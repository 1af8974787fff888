-- Purpose: which of our mail hosts spoke with which host of one receiving system, over the mails of an incident.
-- Parameters: provider VARCHAR. Reads affected.
-- Columns: host (ours), relay (theirs, '-' never reached), mails.
SELECT
  coalesce(nullif(a.last_host, ''), a.host) AS host,
  CASE WHEN a.relay IN ('', 'none') THEN '-' ELSE a.relay END AS relay,
  count(*) AS mails
FROM affected AS a
CROSS JOIN params
WHERE a.provider = params.provider
GROUP BY coalesce(nullif(a.last_host, ''), a.host), CASE WHEN a.relay IN ('', 'none') THEN '-' ELSE a.relay END
ORDER BY mails DESC, host, relay
