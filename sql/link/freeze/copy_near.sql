-- Purpose: queue ids of the other mails that the send log names.
-- Parameters: none. Reads events, named(release, rcpt_key, bare_id).
-- Columns: host, qid.
SELECT DISTINCT e.host, e.qid
FROM events AS e
JOIN (
  SELECT bare_id AS message_id FROM named
  UNION
  SELECT concat('<', bare_id, '>') AS message_id FROM named
) AS n ON n.message_id = e.message_id
UNION
SELECT DISTINCT e.host, e.qid
FROM events AS e
JOIN named AS n ON n.bare_id = e.qid
