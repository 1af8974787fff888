-- Purpose: deliveries of the same message to the same recipient under another queue id: a later one cancels the failure.
-- Parameters: none. Reads events, mail, own_host.
-- Columns: message_id, recipient (lower case), delivered_at.
WITH wanted AS (
  SELECT DISTINCT message_id FROM mail
  WHERE message_id NOT IN ('', '<>') AND delivered_at IS NULL
),
same AS (
  SELECT DISTINCT events.message_id, events.host, events.instance, events.qid, events.at_us
  FROM events
  JOIN wanted ON wanted.message_id = events.message_id
  WHERE events.kind = 'message'
)
SELECT
  same.message_id,
  lower(events.recipient) AS recipient,
  min(events.at_us) AS delivered_at
FROM events
JOIN same ON same.host = events.host AND same.instance = events.instance AND same.qid = events.qid
LEFT JOIN own_host ON own_host.address = events.relay_ip
WHERE events.kind = 'attempt'
  AND events.status = 'sent'
  AND events.at_us >= same.at_us - 1000000
  AND events.at_us <= same.at_us + (SELECT queue_lifetime FROM params)
  AND (own_host.address IS NULL OR events.next_qid = '')
GROUP BY same.message_id, lower(events.recipient)
