-- Purpose: queue ids of one recipient or one message-id, whatever became of the mail.
-- Parameters: none. Reads events, asked(recipient lower case, message_id without brackets; '' any).
-- Columns: host, qid.
SELECT DISTINCT events.host, events.qid
FROM events
CROSS JOIN asked
WHERE (
    asked.recipient <> '' AND events.kind = 'attempt'
    AND (lower(events.recipient) = asked.recipient OR lower(events.orig_to) = asked.recipient)
  )
  OR (
    asked.recipient = ''
    AND events.message_id IN (asked.message_id, concat('<', asked.message_id, '>'))
  )
