-- Purpose: what mail hosts that leave by an address of ours delivered, by receiving host and day: what receivers know of it.
-- Parameters: from_us, until_us (microseconds UTC, of the evidence to look at). Reads events, sends(egress, host).
-- Columns: egress, relay, relay_ip, domain (of one recipient there), day_us (its begin), mails, last_us.
SELECT
  sends.egress,
  events.relay,
  events.relay_ip,
  min(lower(split_part(events.recipient, '@', -1))) AS domain,
  events.at_us - events.at_us % 86400000000 AS day_us,
  count(*) AS mails,
  max(events.at_us) AS last_us
FROM events
CROSS JOIN params
JOIN sends ON sends.host = lower(events.host)
WHERE events.kind = 'attempt'
  AND events.status = 'sent'
  AND events.at_us BETWEEN params.from_us AND params.until_us
GROUP BY sends.egress, events.relay, events.relay_ip, events.at_us - events.at_us % 86400000000
