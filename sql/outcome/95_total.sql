-- Purpose: how much mail there was, by hour of arrival, domain and receiving host, failed mail included: what a share is a
--   share of. Hand-overs to ourselves, bounce mails and resends of ours are no mail of their own. A bounce mail is told
--   by its queue id and arrival, since queue ids are used again.
-- Parameters: none. Reads events, own_host, own_resend(qid, at_us), suspect (the outcomes of 90_suspect).
-- Columns: hour (microseconds UTC of its start), domain, relay, relay_ip, mails.
WITH notice AS (
  SELECT DISTINCT host, instance, qid, at_us FROM events WHERE kind = 'queued' AND sender = ''
),
final AS (
  SELECT
    (events.at_us - coalesce(events.delay, 0)) - (events.at_us - coalesce(events.delay, 0)) % 3600000000 AS hour,
    lower(split_part(events.recipient, '@', -1)) AS domain,
    events.relay,
    events.relay_ip,
    count(*) AS mails
  FROM events
  LEFT JOIN own_host AS by_ip ON by_ip.address = events.relay_ip
  LEFT JOIN own_host AS by_name ON by_name.address = events.relay
  LEFT JOIN own_host AS by_port ON by_port.address = concat(events.relay_ip, ':', CAST(events.relay_port AS VARCHAR))
  WHERE events.kind = 'attempt'
    AND events.status = 'sent'
    AND NOT EXISTS (
      SELECT 1 FROM notice
      WHERE notice.host = events.host AND notice.instance = events.instance AND notice.qid = events.qid
        AND events.at_us - coalesce(events.delay, 0) BETWEEN notice.at_us - 5000000 AND notice.at_us + 5000000
    )
    AND NOT EXISTS (
      SELECT 1 FROM own_resend
      WHERE own_resend.qid = events.qid
        AND events.at_us - coalesce(events.delay, 0) BETWEEN own_resend.at_us - 900000000 AND own_resend.at_us + 900000000
    )
    AND (
      events.next_qid = ''
      OR (
        events.relay_ip <> '' AND by_ip.address IS NULL AND by_name.address IS NULL AND by_port.address IS NULL
      )
    )
  GROUP BY
    (events.at_us - coalesce(events.delay, 0)) - (events.at_us - coalesce(events.delay, 0)) % 3600000000,
    lower(split_part(events.recipient, '@', -1)),
    events.relay,
    events.relay_ip
),
failed AS (
  SELECT arrived_at - arrived_at % 3600000000 AS hour, domain, relay, relay_ip, count(*) AS mails
  FROM suspect
  WHERE status NOT IN ('delivered', 'delivered_late') AND accepted = 0
  GROUP BY arrived_at - arrived_at % 3600000000, domain, relay, relay_ip
)
SELECT hour, domain, relay, relay_ip, CAST(sum(mails) AS BIGINT) AS mails
FROM (SELECT * FROM final UNION ALL SELECT * FROM failed) AS counted
GROUP BY hour, domain, relay, relay_ip
