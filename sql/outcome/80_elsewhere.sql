-- Purpose: deliveries of the same message to the same recipient under another queue id: a later one cancels the failure.
-- Parameters: queue_lifetime (microseconds). Reads events, mail, hop.
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
),
bounded AS (
  -- the queue id is another mail's from its next message-id on
  SELECT
    same.message_id,
    same.host,
    same.instance,
    same.qid,
    same.at_us,
    min(events.at_us) AS until_us
  FROM same
  LEFT JOIN events
    ON events.host = same.host AND events.instance = same.instance AND events.qid = same.qid
    AND events.kind = 'message' AND events.at_us > same.at_us
  GROUP BY same.message_id, same.host, same.instance, same.qid, same.at_us
)
SELECT
  bounded.message_id,
  lower(events.recipient) AS recipient,
  min(events.at_us) AS delivered_at
FROM events
JOIN bounded ON bounded.host = events.host AND bounded.instance = events.instance AND bounded.qid = events.qid
LEFT JOIN (SELECT DISTINCT host, qid, recipient, next_qid FROM hop WHERE kind = 'attempt') AS handed
  ON handed.host = events.host AND handed.qid = events.qid AND handed.recipient = events.recipient
  AND handed.next_qid = events.next_qid
WHERE events.kind = 'attempt'
  AND events.status = 'sent'
  AND events.at_us >= bounded.at_us - 1000000
  AND events.at_us <= coalesce(bounded.until_us, bounded.at_us + (SELECT queue_lifetime FROM params))
  AND handed.qid IS NULL
GROUP BY bounded.message_id, lower(events.recipient)
