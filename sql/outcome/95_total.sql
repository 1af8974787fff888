-- Purpose: how much mail there was, by hour of arrival, domain and receiving host, failed mail included: what a share is a
--   share of. Hand-overs to ourselves, bounce mails and resends of ours are no mail of their own: all deliveries are
--   counted, then those are taken off. A bounce mail is told by its queue id and arrival, since queue ids are used again.
-- Parameters: none. Reads events, own_host, own_resend(qid, at_us), suspect (the outcomes of 90_suspect).
-- Columns: hour (microseconds UTC of its start), domain, relay, relay_ip, mails.
WITH notice AS (
  SELECT DISTINCT host, instance, qid, at_us FROM events WHERE kind = 'queued' AND sender = ''
),
not_ours AS (
  SELECT events.part, events.line, events.recipient
  FROM events
  JOIN notice ON notice.host = events.host AND notice.instance = events.instance AND notice.qid = events.qid
  WHERE events.kind = 'attempt'
    AND events.status = 'sent'
    AND events.at_us - coalesce(events.delay, 0) BETWEEN notice.at_us - 5000000 AND notice.at_us + 5000000
  UNION
  SELECT events.part, events.line, events.recipient
  FROM events
  JOIN own_resend ON own_resend.qid = events.qid
  WHERE events.kind = 'attempt'
    AND events.status = 'sent'
    AND events.at_us - coalesce(events.delay, 0) BETWEEN own_resend.at_us - 900000000 AND own_resend.at_us + 900000000
),
delivery AS (
  SELECT
    at_us - coalesce(delay, 0) AS arrived_at, recipient, relay, relay_ip, relay_port, next_qid, 1 AS mails
  FROM events
  WHERE kind = 'attempt' AND status = 'sent'
  UNION ALL
  SELECT
    events.at_us - coalesce(events.delay, 0), events.recipient, events.relay, events.relay_ip, events.relay_port,
    events.next_qid, -1
  FROM events
  JOIN not_ours
    ON not_ours.part = events.part AND not_ours.line = events.line AND not_ours.recipient = events.recipient
  WHERE events.kind = 'attempt' AND events.status = 'sent'
),
counted AS (
  SELECT
    arrived_at - arrived_at % 3600000000 AS hour,
    lower(split_part(recipient, '@', -1)) AS domain,
    relay,
    relay_ip,
    relay_port,
    CASE WHEN next_qid = '' THEN 0 ELSE 1 END AS handed,
    sum(mails) AS mails
  FROM delivery
  GROUP BY
    arrived_at - arrived_at % 3600000000,
    lower(split_part(recipient, '@', -1)),
    relay,
    relay_ip,
    relay_port,
    CASE WHEN next_qid = '' THEN 0 ELSE 1 END
),
final AS (
  SELECT counted.hour, counted.domain, counted.relay, counted.relay_ip, counted.mails
  FROM counted
  LEFT JOIN own_host AS by_ip ON by_ip.address = counted.relay_ip
  LEFT JOIN own_host AS by_name ON by_name.address = counted.relay
  LEFT JOIN own_host AS by_port
    ON by_port.address = concat(counted.relay_ip, ':', CAST(counted.relay_port AS VARCHAR))
  WHERE counted.handed = 0
    OR (counted.relay_ip <> '' AND by_ip.address IS NULL AND by_name.address IS NULL AND by_port.address IS NULL)
),
failed AS (
  SELECT arrived_at - arrived_at % 3600000000 AS hour, domain, relay, relay_ip, count(*) AS mails
  FROM suspect
  WHERE status NOT IN ('delivered', 'delivered_late') AND accepted = 0
  GROUP BY arrived_at - arrived_at % 3600000000, domain, relay, relay_ip
)
SELECT hour, domain, relay, relay_ip, CAST(sum(mails) AS BIGINT) AS mails
FROM (SELECT * FROM final UNION ALL SELECT * FROM failed) AS counted_all
GROUP BY hour, domain, relay, relay_ip
HAVING sum(mails) > 0
