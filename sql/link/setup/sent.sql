-- Purpose: the rows of the send log whose message-id occurs among the outcomes, as their message-id or as the id under
--   which their mail was accepted; brackets removed.
-- Parameters: none. Reads outcome, sendlog.
-- Columns: bare_id, address (lower case), release, recipient_id, sent_at, envelope.
WITH bare AS (
  SELECT
    CASE WHEN substring(message_id, 1, 1) = '<' THEN split_part(substring(message_id, 2), '>', 1) ELSE message_id END
      AS bare_id,
    lower(rcpt_key) AS address,
    release,
    recipient AS recipient_id,
    sent_at,
    envelope
  FROM sendlog
  WHERE message_id <> ''
)
SELECT b.bare_id, b.address, b.release, b.recipient_id, b.sent_at, b.envelope
FROM bare AS b
JOIN (
  SELECT bare_id FROM outcome WHERE bare_id <> ''
  UNION
  SELECT qid AS bare_id FROM outcome WHERE qid <> ''
) AS o ON o.bare_id = b.bare_id
