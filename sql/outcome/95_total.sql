-- Purpose: how much mail there was, by hour, domain and receiving host, failed mail included: what a share is a share of.
-- Parameters: none. Reads events, own_host, suspect (the outcomes of 90_suspect).
-- Columns: hour (microseconds UTC of its start), domain, relay, relay_ip, mails.
WITH notice AS (
  SELECT DISTINCT host, instance, qid FROM events WHERE kind = 'queued' AND sender = ''
),
final AS (
  SELECT
    events.at_us - events.at_us % 3600000000 AS hour,
    lower(split_part(events.recipient, '@', 2)) AS domain,
    events.relay,
    events.relay_ip,
    count(*) AS mails
  FROM events
  LEFT JOIN own_host AS by_ip ON by_ip.address = events.relay_ip
  LEFT JOIN own_host AS by_name ON by_name.address = events.relay
  LEFT JOIN notice ON notice.host = events.host AND notice.instance = events.instance AND notice.qid = events.qid
  WHERE events.kind = 'attempt'
    AND events.status = 'sent'
    AND notice.qid IS NULL
    AND ((by_ip.address IS NULL AND by_name.address IS NULL AND events.relay_ip <> '') OR events.next_qid = '')
  GROUP BY
    events.at_us - events.at_us % 3600000000,
    lower(split_part(events.recipient, '@', 2)),
    events.relay,
    events.relay_ip
),
failed AS (
  SELECT
    arrived_at - arrived_at % 3600000000 AS hour,
    domain,
    relay,
    relay_ip,
    count(*) AS mails
  FROM suspect
  WHERE status NOT IN ('delivered', 'delivered_late')
  GROUP BY arrived_at - arrived_at % 3600000000, domain, relay, relay_ip
)
SELECT hour, domain, relay, relay_ip, sum(mails) AS mails
FROM (SELECT * FROM final UNION ALL SELECT * FROM failed)
GROUP BY hour, domain, relay, relay_ip
