-- Purpose: all mail of the window by dimension, for shares: the failed are counted against these.
-- Parameters: from_us, to_us BIGINT (arrival; NULL unbounded), provider VARCHAR ('' all; bounds the hours only). Reads
--   total(hour, domain, relay, relay_ip, mails), provider_of_total, release_total(release, mails), sendlog, release.
-- Columns: dimension, value, mails.
WITH counted AS (
  SELECT t.hour, t.domain, p.provider, t.mails
  FROM total AS t
  CROSS JOIN params
  JOIN provider_of_total AS p ON p.relay = t.relay AND p.relay_ip = t.relay_ip AND p.domain = t.domain
  WHERE (params.from_us IS NULL OR t.hour > params.from_us - 3600000000)
    AND (params.to_us IS NULL OR t.hour < params.to_us)
),
logged AS (
  SELECT release, count(*) AS mails FROM sendlog GROUP BY release
),
by_release AS (
  SELECT r.id AS release, r.customer, CASE WHEN t.mails > coalesce(l.mails, 0) THEN t.mails ELSE l.mails END AS mails
  FROM release AS r
  LEFT JOIN logged AS l ON l.release = r.id
  LEFT JOIN release_total AS t ON t.release = r.id
)
SELECT 'total' AS dimension, 'all' AS value, sum(mails) AS mails FROM counted HAVING count(*) > 0
UNION ALL
SELECT 'provider' AS dimension, provider AS value, sum(mails) AS mails FROM counted GROUP BY provider
UNION ALL
SELECT 'domain' AS dimension, domain AS value, sum(mails) AS mails FROM counted GROUP BY domain
UNION ALL
SELECT 'hour' AS dimension, CAST(hour AS VARCHAR) AS value, sum(mails) AS mails
FROM counted
CROSS JOIN params
WHERE params.provider = '' OR counted.provider = params.provider
GROUP BY hour
UNION ALL
SELECT 'release' AS dimension, release AS value, mails FROM by_release WHERE mails IS NOT NULL
UNION ALL
SELECT 'customer' AS dimension, customer AS value, sum(mails) AS mails
FROM by_release
WHERE mails IS NOT NULL
GROUP BY customer
