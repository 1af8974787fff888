-- Purpose: other mails that the send log has of the release and to the mailbox of a linked one that failed or came late.
-- Parameters: none. Reads suspect, outcome, link, recipient, sendlog.
-- Columns: release, rcpt_key, bare_id (message-id without brackets, of the other mail).
WITH bare AS (
  SELECT
    CASE WHEN substring(message_id, 1, 1) = '<' THEN split_part(substring(message_id, 2), '>', 1) ELSE message_id END
      AS bare_id,
    rcpt_key,
    release
  FROM sendlog
  WHERE message_id <> ''
)
SELECT DISTINCT l.release, r.rcpt_key, b.bare_id
FROM link AS l
JOIN suspect AS s ON s.outcome_id = l.outcome_id
JOIN outcome AS o ON o.outcome_id = l.outcome_id
JOIN recipient AS r ON r.id = l.recipient_id
JOIN bare AS b ON b.release = l.release AND b.rcpt_key = r.rcpt_key
WHERE s.status <> 'delivered'
  AND l.recipient_id <> ''
  AND b.bare_id <> o.bare_id
  AND b.bare_id <> o.qid  -- the id under which a service took this very mail
