-- Purpose: mails of each release, from the message-id template, for shares where there is no send log.
-- Parameters: id_prefix, id_infix (what stands around the first id; '' prefix: no template). Reads events.
-- Columns: release, mails.
WITH bare AS (
  SELECT DISTINCT
    CASE WHEN substring(message_id, 1, 1) = '<' THEN substring(message_id, 2) ELSE message_id END AS message_id
  FROM events
  WHERE kind = 'message' AND position((SELECT id_prefix FROM params) IN message_id) IN (1, 2)
),
cut AS (
  SELECT substring(message_id, length((SELECT id_prefix FROM params)) + 1) AS rest FROM bare
)
SELECT split_part(rest, (SELECT id_infix FROM params), 1) AS release, count(*) AS mails
FROM cut
WHERE (SELECT id_prefix FROM params) <> '' AND position((SELECT id_infix FROM params) IN rest) > 1
GROUP BY split_part(rest, (SELECT id_infix FROM params), 1)
