-- Purpose: how much a receiving system took in an hour while it throttled us, by the evidence: the best such hour. What it
--   takes in better times says nothing of a catch-up.
-- Parameters: none. Reads total, provider_of_total, suspect, provider_of, cause_of.
-- Columns: provider, mails (in the hour).
WITH named AS (
  SELECT
    p.provider,
    s.arrived_at - s.arrived_at % 3600000000 AS hour,
    s.first_failed_at - s.first_failed_at % 3600000000 AS failed_hour,
    s.delivered_at - s.delivered_at % 3600000000 AS delivered_hour,
    s.status,
    c.cause
  FROM suspect AS s
  JOIN provider_of AS p ON p.relay = s.relay AND p.relay_ip = s.relay_ip AND p.domain = s.domain
  JOIN cause_of AS c
    ON c.reply = s.reply AND c.code = s.code AND c.enhanced = s.enhanced AND c.provider = p.provider AND c.stage = s.stage
),
throttled AS (
  SELECT provider, failed_hour AS hour
  FROM named
  WHERE cause = 'throttled' AND failed_hour IS NOT NULL
  GROUP BY provider, failed_hour
  HAVING count(*) >= 10
),
moved AS (
  SELECT p.provider, t.hour, sum(t.mails) AS mails
  FROM total AS t
  JOIN provider_of_total AS p ON p.relay = t.relay AND p.relay_ip = t.relay_ip AND p.domain = t.domain
  GROUP BY p.provider, t.hour
  UNION ALL
  SELECT provider, hour, -count(*) FROM named GROUP BY provider, hour
  UNION ALL
  SELECT provider, delivered_hour, count(*)
  FROM named
  WHERE status IN ('delivered', 'delivered_late') AND delivered_hour IS NOT NULL
  GROUP BY provider, delivered_hour
),
accepted AS (
  SELECT provider, hour, sum(mails) AS mails FROM moved GROUP BY provider, hour
)
SELECT a.provider, max(a.mails) AS mails
FROM accepted AS a
JOIN throttled AS t ON t.provider = a.provider AND t.hour = a.hour
GROUP BY a.provider
HAVING max(a.mails) > 0
