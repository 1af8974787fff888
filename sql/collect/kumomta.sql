-- Purpose: records of KumoMTA's log segments, one JSON object a line. A record may name several recipients. An
--   out-of-band report came after the delivery; one of a delay only says that the mail is late. A feedback report becomes a
--   `complaint`. Rejections of incoming mail, moves between nodes and records of log hooks say nothing of a mail of ours.
--   Logged headers and meta values are headers.
-- Format: kumomta, the log records of KumoMTA
-- Version: 1
-- Input: json
-- Detect: "type"\s*:\s*"(?:Reception|Delivery|Bounce|TransientFailure|Expiration|AdminBounce|OOB|Feedback|Delayed|Delay|Rejection|AdminRebind|XferIn|XferOut|Xfer|Deferral)".*"(?:egress_pool|nodeid|bounce_classification|peer_address)"\s*:
-- Detect: "(?:egress_pool|nodeid|bounce_classification|peer_address)"\s*:.*"type"\s*:\s*"(?:Reception|Delivery|Bounce|TransientFailure|Expiration|AdminBounce|OOB|Feedback|Delayed|Delay|Rejection)"
-- Facts: docs.kumomta.com/reference/log_record.
-- Parameters: host VARCHAR ('' the record's nodeid). Reads lines(line, text).
-- Columns: those of sql/collect/postfix.sql.
WITH document AS (
  SELECT
    line,
    text,
    TRY(json_transform(listed(text), '[{
      "type": "VARCHAR", "id": "VARCHAR", "sender": "VARCHAR", "recipient": "VARCHAR", "size": "BIGINT", "nodeid": "VARCHAR",
      "timestamp": "VARCHAR", "event_time": "VARCHAR", "created": "VARCHAR", "creation": "VARCHAR",
      "reception_protocol": "VARCHAR", "headers": "MAP(VARCHAR, VARCHAR)", "meta": "MAP(VARCHAR, VARCHAR)",
      "response": {"code": "INTEGER", "content": "VARCHAR", "command": "VARCHAR",
        "enhanced_code": {"class": "VARCHAR", "subject": "VARCHAR", "detail": "VARCHAR"}},
      "peer_address": {"name": "VARCHAR", "addr": "VARCHAR"},
      "feedback_report": {"original_rcpto_to": ["VARCHAR"], "original_rcpt_to": ["VARCHAR"],
        "supplemental_trace": {"recipient": "VARCHAR"}}}]')) AS told
  FROM lines
  WHERE filled(text)
),
record AS (
  SELECT
    line,
    text,
    said,
    said['type'] AS type,
    CASE
      WHEN host <> '' THEN host
      WHEN said['nodeid'] <> '' THEN said['nodeid']
      ELSE 'kumomta'
    END AS host,
    coalesce(moment_us(said['event_time']), moment_us(said['timestamp'])) AS at_us,
    coalesce(moment_us(said['created']), moment_us(said['creation'])) AS begun_us,
    said['response']['enhanced_code']['class'] || '.' || said['response']['enhanced_code']['subject'] || '.'
      || said['response']['enhanced_code']['detail'] AS enhanced,
    CASE WHEN map_contains(said['headers'], 'Message-ID') THEN said['headers']['Message-ID'] ELSE list_filter(
      map_entries(said['headers']), lambda entry: lower(entry['key']) = 'message-id'
    )[1]['value'] END AS named,
    CASE
      WHEN said['type'] = 'Feedback' THEN CASE
        WHEN said['feedback_report']['supplemental_trace']['recipient'] <> ''
          THEN [said['feedback_report']['supplemental_trace']['recipient']]
        ELSE coalesce(said['feedback_report']['original_rcpto_to'], said['feedback_report']['original_rcpt_to'])
      END
      WHEN starts_with(said['recipient'], '[') THEN TRY(json_transform(said['recipient'], '["VARCHAR"]'))
      ELSE [said['recipient']]
    END AS recipients
  FROM (SELECT line, text, unnest(told) AS said FROM document WHERE told IS NOT NULL)
  CROSS JOIN params
  WHERE said['type'] IN (
    'Reception', 'Delivery', 'Bounce', 'TransientFailure', 'Expiration', 'AdminBounce', 'OOB', 'Feedback', 'Delayed', 'Delay'
  ) AND coalesce(said['reception_protocol'], '') <> 'LogRecord'
),
worded AS (
  SELECT
    *,
    coalesce(nullif(said['id'], ''), concat(address, '/', at_us)) AS qid,
    first_of(named) AS message_id,
    CASE WHEN type IN ('Delivery', 'Bounce', 'TransientFailure') THEN said['peer_address'] END AS peer,
    concat(
      CASE
        WHEN regexp_matches(bare_reply(said['response']['content']), '^[245][0-9]{2}[ -]') THEN bare_reply(said['response']['content'])
        ELSE concat_ws(' ', said['response']['code'], enhanced, bare_reply(said['response']['content']))
      END,
      CASE
        WHEN type IN ('Bounce', 'TransientFailure') THEN CASE
          WHEN starts_with(said['response']['command'], 'RCPT TO') THEN ' (in reply to RCPT TO command)'
          WHEN starts_with(said['response']['command'], 'MAIL FROM') THEN ' (in reply to MAIL FROM command)'
          WHEN starts_with(said['response']['command'], 'DATA') THEN ' (in reply to DATA command)'
          WHEN starts_with(said['response']['command'], '.') THEN ' (in reply to end of DATA command)'
          WHEN starts_with(said['response']['command'], 'EHLO') THEN ' (in reply to EHLO command)'
          ELSE ''
        END
        ELSE ''
      END
    ) AS words
  FROM (
    SELECT *, bare_address(item) AS address
    FROM (
      SELECT
        *,
        unnest(CASE
          WHEN len(recipients) > 0 THEN CASE WHEN type = 'Reception' THEN recipients[1:1] ELSE recipients END
          ELSE [NULL]
        END) AS item
      FROM record
    )
  )
)
SELECT * FROM no_event
UNION ALL BY NAME
SELECT
  at_us,
  host,
  '' AS instance,
  qid,
  CASE type WHEN 'Reception' THEN 'queued' WHEN 'Feedback' THEN 'complaint' ELSE 'attempt' END AS kind,
  line,
  CASE WHEN type NOT IN ('OOB', 'Feedback') THEN said['sender'] END AS sender,
  CASE WHEN type <> 'Reception' THEN address END AS recipient,
  lower(rtrim(peer['name'], '.')) AS relay,
  peer['addr'] AS relay_ip,
  CASE type
    WHEN 'Delivery' THEN 'sent'
    WHEN 'Bounce' THEN 'bounced'
    WHEN 'AdminBounce' THEN 'bounced'
    WHEN 'TransientFailure' THEN 'deferred'
    WHEN 'Delayed' THEN 'deferred'
    WHEN 'Delay' THEN 'deferred'
    WHEN 'Expiration' THEN 'expired'
    WHEN 'OOB' THEN CASE
      WHEN starts_with(coalesce(enhanced, said['response']['code']::VARCHAR), '4') AND enhanced IS DISTINCT FROM '4.4.7' THEN 'deferred'
      WHEN starts_with(coalesce(enhanced, said['response']['code']::VARCHAR), '2') THEN 'sent'
      ELSE 'returned'
    END
  END AS status,
  CASE WHEN type NOT IN ('Reception', 'Feedback') AND said['response']['code'] BETWEEN 200 AND 599 THEN said['response']['code'] END
    AS code,
  CASE WHEN type NOT IN ('Reception', 'Feedback') THEN enhanced END AS enhanced,
  CASE WHEN type NOT IN ('Reception', 'Feedback', 'OOB') AND at_us >= begun_us THEN at_us - begun_us END AS delay,
  CASE WHEN type NOT IN ('Reception', 'Feedback', 'Delivery') AND NOT starts_with(words, '2') THEN words END AS reply,
  bracketed(message_id) AS message_id,
  CASE WHEN type = 'Reception' THEN said['size'] END AS size,
  CASE WHEN type = 'Reception' THEN len(recipients) END AS nrcpt
FROM worded
WHERE at_us IS NOT NULL AND contains(address, '@')
UNION ALL BY NAME
SELECT at_us, host, '' AS instance, said['id'] AS qid, 'header' AS kind, line, header_text(entry['key'], first_of(entry['value'])) AS text
FROM (
  SELECT at_us, host, said, line, unnest(list_concat(map_entries(said['headers']), map_entries(said['meta']))) AS entry
  FROM record
  WHERE at_us IS NOT NULL AND said['id'] <> '' AND type <> 'Feedback'
)
WHERE lower(entry['key']) <> 'message-id' AND entry['value'] <> ''
UNION ALL BY NAME
SELECT DISTINCT 0 AS at_us, '' AS host, '' AS instance, '' AS qid, 'rejected' AS kind, line, reply, left(text, 2000) AS text
FROM (
  SELECT line, unfit(text) AS reply, text FROM document WHERE told IS NULL
  UNION ALL
  SELECT line, CASE WHEN at_us IS NULL THEN 'no time' ELSE 'no recipient' END AS reply, text
  FROM worded
  WHERE (at_us IS NULL OR coalesce(position('@' IN address), 0) = 0) AND type <> 'Feedback'
)
