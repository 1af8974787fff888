-- Purpose: how the receiving system of failed and of queued mail was found: by the relay in the log, by MX, or by the
--   domain only.
-- Parameters: none. Reads suspect (sql/outcome/90_suspect), provider_of, queued (sql/triage/30_queued), provider_of_queued.
-- Columns: way, domain, mails.
WITH found AS (
  SELECT p.way, s.domain
  FROM suspect AS s
  JOIN provider_of AS p ON p.relay = s.relay AND p.relay_ip = s.relay_ip AND p.domain = s.domain
  WHERE s.status <> 'still_queued'
  UNION ALL
  SELECT p.way, q.domain
  FROM queued AS q
  JOIN provider_of_queued AS p ON p.relay = q.relay AND p.relay_ip = q.relay_ip AND p.domain = q.domain
)
SELECT way, domain, count(*) AS mails
FROM found
GROUP BY way, domain
ORDER BY mails DESC, way, domain
