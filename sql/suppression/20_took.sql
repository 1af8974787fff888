-- Purpose: which of an incident's failed addresses took mail, by the delivery lines of all evidence, and when last.
-- Parameters: none. Reads affected, events, own_host(address).
-- Columns: folded, last_sent_at (microseconds UTC).
WITH wanted AS (
  SELECT DISTINCT folded, lower(recipient) AS recipient FROM affected WHERE status IN ('bounced', 'expired')
)
SELECT wanted.folded, max(events.at_us) AS last_sent_at
FROM events
JOIN wanted ON wanted.recipient = lower(events.recipient)
LEFT JOIN own_host AS by_ip ON by_ip.address = events.relay_ip
LEFT JOIN own_host AS by_name ON by_name.address = events.relay
WHERE events.kind = 'attempt'
  AND events.status = 'sent'
  AND by_ip.address IS NULL
  AND by_name.address IS NULL
  AND events.relay_ip <> ''
GROUP BY wanted.folded
