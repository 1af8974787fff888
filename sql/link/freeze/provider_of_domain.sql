-- Purpose: the receiving system that most mail of a domain went to, for mail without a line that names a relay.
-- Parameters: none. Reads total(hour, domain, relay, relay_ip, mails), provider_of_total.
-- Columns: domain, provider.
WITH counted AS (
  SELECT t.domain, p.provider, sum(t.mails) AS mails
  FROM total AS t
  JOIN provider_of_total AS p ON p.relay = t.relay AND p.relay_ip = t.relay_ip AND p.domain = t.domain
  GROUP BY t.domain, p.provider
),
ranked AS (
  SELECT
    domain,
    provider,
    row_number() OVER (PARTITION BY domain ORDER BY mails DESC NULLS LAST, provider) AS place
  FROM counted
)
SELECT domain, provider FROM ranked WHERE place = 1
