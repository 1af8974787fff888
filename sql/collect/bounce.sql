-- Purpose: mails that came back, to events. Each mail is a line of JSON here, made by resend/collect/mails.py from what
--   resend/collect/bounces read. A report of a failure is the last word on a recipient, even after a delivery; a delay
--   warning, an automatic answer and any other mail is no event; a complaint is an event of its own.
-- Format: bounce, mails that report failures: a Maildir, an mbox, .eml files
-- Version: 1
-- Input: mail
-- Facts: RFC 3464 (delivery reports), RFC 5965 (complaints).
-- Parameters: none. Reads lines(line, text).
-- Columns: those of sql/collect/postfix.sql. host is `bounce`; qid the hash of the mail; the header fields that came back
--   with a mail are events of kind header.
WITH report AS (
  SELECT
    line,
    text,
    json_transform(text, '{
      "kind": "VARCHAR", "error": "VARCHAR", "text": "VARCHAR", "id": "VARCHAR", "at": "BIGINT", "sent_at": "BIGINT", "message_id": "VARCHAR",
      "sender": "VARCHAR", "headers": ["VARCHAR"], "recipients": [{
        "recipient": "VARCHAR", "original": "VARCHAR", "action": "VARCHAR", "status": "VARCHAR", "code": "INTEGER",
        "reply": "VARCHAR", "relay": "VARCHAR", "relay_ip": "VARCHAR", "at": "BIGINT"
      }]
    }') AS said
  FROM lines
),
told AS (
  SELECT line, said, unnest(said['recipients']) AS about
  FROM report
  WHERE said['kind'] IN ('failure', 'complaint', 'not_a_report') AND said['error'] IS NULL
),
attempt AS (
  SELECT
    coalesce(about['at'], said['at'], said['sent_at'], 0) AS at_us,
    said['id'] AS qid,
    CASE WHEN said['kind'] = 'complaint' THEN 'complaint' ELSE 'attempt' END AS kind,
    line,
    said['sender'] AS sender,
    coalesce(nullif(about['original'], ''), about['recipient']) AS recipient,
    about['relay'] AS relay,
    about['relay_ip'] AS relay_ip,
    CASE
      WHEN said['kind'] = 'complaint' THEN NULL
      WHEN about['action'] = 'delivered' THEN 'sent'
      ELSE 'returned'
    END AS status,
    nullif(about['code'], 0) AS code,
    about['status'] AS enhanced,
    CASE
      WHEN coalesce(about['at'], said['at']) BETWEEN said['sent_at'] AND said['sent_at'] + 2592000000000  -- 30 days
        THEN coalesce(about['at'], said['at']) - said['sent_at']
    END AS delay,
    CASE WHEN about['action'] <> 'delivered' THEN about['reply'] END AS reply,
    said['message_id'] AS message_id
  FROM told
  WHERE CASE said['kind']
    WHEN 'failure' THEN about['action'] IN ('failed', 'delivered')
    WHEN 'not_a_report' THEN about['action'] = 'delivered' AND said['message_id'] <> ''  -- a report of a success
    ELSE true
  END
),
header AS (
  SELECT
    coalesce(said['at'], said['sent_at'], 0) AS at_us, said['id'] AS qid, 'header' AS kind, line,
    concat('header ', unnest(said['headers'])) AS text
  FROM report
  WHERE said['kind'] = 'failure' AND said['error'] IS NULL AND line IN (SELECT line FROM attempt)
),
rejected AS (
  SELECT 0 AS at_us, '' AS qid, 'rejected' AS kind, line, said['error'] AS reply, said['text'] AS text
  FROM report
  WHERE said['error'] IS NOT NULL
),
united AS (
  SELECT * FROM attempt
  UNION ALL BY NAME
  SELECT * FROM header
  UNION ALL BY NAME
  SELECT * FROM rejected
)
SELECT
  at_us,
  CASE WHEN kind = 'rejected' THEN '' ELSE 'bounce' END AS host,
  '' AS instance,
  qid,
  kind,
  line,
  nullif(sender, '') AS sender,
  nullif(recipient, '') AS recipient,
  NULL::VARCHAR AS orig_to,
  nullif(relay, '') AS relay,
  nullif(relay_ip, '') AS relay_ip,
  NULL::INTEGER AS relay_port,
  status,
  code,
  nullif(enhanced, '') AS enhanced,
  delay,
  nullif(reply, '') AS reply,
  nullif(message_id, '') AS message_id,
  NULL::VARCHAR AS next_qid,
  NULL::BIGINT AS size,
  NULL::INTEGER AS nrcpt,
  text
FROM united
