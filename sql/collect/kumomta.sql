-- Purpose: records of KumoMTA's log segments, one JSON object a line. A record may name several recipients. An
--   out-of-band report came after the delivery; one of a delay only says that the mail is late. A feedback report becomes a
--   `complaint`. Rejections of incoming mail, moves between nodes and records of log hooks say nothing of a mail of ours.
--   Logged headers and meta values are headers.
-- Format: kumomta, the log records of KumoMTA
-- Version: 2
-- Input: json
-- Detect: "type"\s*:\s*"(?:Reception|Delivery|Bounce|TransientFailure|Expiration|AdminBounce|OOB|Feedback|Delayed|Delay|Rejection|AdminRebind|XferIn|XferOut|Xfer|Deferral)".*"(?:egress_pool|nodeid|bounce_classification|peer_address)"\s*:
-- Detect: "(?:egress_pool|nodeid|bounce_classification|peer_address)"\s*:.*"type"\s*:\s*"(?:Reception|Delivery|Bounce|TransientFailure|Expiration|AdminBounce|OOB|Feedback|Delayed|Delay|Rejection)"
-- Facts: docs.kumomta.com/reference/log_record.
-- Parameters: host VARCHAR ('' the record's nodeid). Reads lines(line, text).
-- Columns: those of sql/collect/postfix.sql.
WITH document AS (
  SELECT line, text, unnest(coalesce(TRY(json_transform(listed(text), '[{
      "type": "VARCHAR", "id": "VARCHAR", "sender": "VARCHAR", "recipient": "VARCHAR", "size": "BIGINT", "nodeid": "VARCHAR",
      "timestamp": "VARCHAR", "event_time": "VARCHAR", "created": "VARCHAR", "creation": "VARCHAR",
      "reception_protocol": "VARCHAR", "bounce_classification": "VARCHAR", "headers": "MAP(VARCHAR, VARCHAR)", "meta": "MAP(VARCHAR, VARCHAR)",
      "response": {"code": "INTEGER", "content": "VARCHAR", "command": "VARCHAR",
        "enhanced_code": {"class": "VARCHAR", "subject": "VARCHAR", "detail": "VARCHAR"}},
      "peer_address": {"name": "VARCHAR", "addr": "VARCHAR"},
      "feedback_report": {"original_rcpto_to": ["VARCHAR"], "original_rcpt_to": ["VARCHAR"],
        "supplemental_trace": {"recipient": "VARCHAR"}}}]')), [{'type': 'broken'}])) AS said
  FROM lines
  WHERE filled(text)
),
typed AS (
  SELECT
    line,
    text,
    said,
    said['type'] AS type,
    said['response'] AS response,
    said['headers'] AS headers,
    coalesce(moment_us(said['event_time']), moment_us(said['timestamp'])) AS at_us,
    coalesce(moment_us(said['created']), moment_us(said['creation'])) AS begun_us,
    CASE
      WHEN said['type'] = 'Feedback' THEN CASE
        WHEN said['feedback_report']['supplemental_trace']['recipient'] <> ''
          THEN [said['feedback_report']['supplemental_trace']['recipient']]
        ELSE coalesce(said['feedback_report']['original_rcpto_to'], said['feedback_report']['original_rcpt_to'])
      END
      WHEN left(said['recipient'], 1) = '[' THEN TRY(json_transform(said['recipient'], '["VARCHAR"]'))
      ELSE [said['recipient']]
    END AS recipients
  FROM document
  WHERE said['type'] IN (
    'Reception', 'Delivery', 'Bounce', 'TransientFailure', 'Expiration', 'AdminBounce', 'OOB', 'Feedback', 'Delayed', 'Delay',
    'broken'
  ) AND said['reception_protocol'] IS DISTINCT FROM 'LogRecord'
),
worded AS (
  SELECT
    *,
    response['enhanced_code']['class'] || '.' || response['enhanced_code']['subject'] || '.' || response['enhanced_code']['detail']
      AS enhanced,
    bare_reply(response['content']) AS content
  FROM typed
),
record AS (
  -- only what is needed from here on: the records are long
  SELECT
    line,
    CASE WHEN host <> '' THEN host WHEN said['nodeid'] <> '' THEN said['nodeid'] ELSE 'kumomta' END AS host,
    type,
    at_us,
    begun_us,
    coalesce(said['id'], '') AS id,
    CASE WHEN type NOT IN ('OOB', 'Feedback') THEN said['sender'] END AS sender,
    CASE WHEN type = 'Reception' THEN said['size'] END AS size,
    CASE WHEN type = 'Reception' THEN len(recipients) END AS nrcpt,
    CASE WHEN type = 'Reception' THEN recipients[1:1] ELSE recipients END AS recipients,
    CASE WHEN type IN ('Delivery', 'Bounce', 'TransientFailure') THEN said['peer_address'] END AS peer,
    first_of(CASE
      WHEN headers['Message-ID'] IS NOT NULL THEN headers['Message-ID']
      ELSE list_filter(map_entries(headers), lambda entry: lower(entry['key']) = 'message-id')[1]['value']
    END) AS message_id,
    CASE
      WHEN type NOT IN ('Reception', 'Feedback') AND (type <> 'Delivery' OR at_us - begun_us > 60000000)
        THEN list_concat(map_entries(headers), map_entries(said['meta']))
    END AS extra,
    CASE WHEN type NOT IN ('Reception', 'Feedback') THEN coalesce(enhanced, told_enhanced(content)) END AS enhanced,
    CASE WHEN type NOT IN ('Reception', 'Feedback') AND response['code'] BETWEEN 200 AND 599 THEN response['code'] END AS code,
    CASE
      WHEN type IN ('Reception', 'Feedback', 'Delivery', 'broken') THEN NULL
      WHEN coalesce(response['code'], 0) = 0
        THEN concat_ws(' ', nullif(content, ''), 'bounce_classification: ' || nullif(said['bounce_classification'], 'Uncategorized'))
      WHEN regexp_matches(content, '^[245][0-9]{2}[ -]') THEN content
      ELSE concat_ws(' ', response['code'], enhanced, content)
    END AS reply,
    CASE
      WHEN type NOT IN ('Bounce', 'TransientFailure') THEN ''
      WHEN starts_with(response['command'], 'RCPT TO') THEN ' (in reply to RCPT TO command)'
      WHEN starts_with(response['command'], 'MAIL FROM') THEN ' (in reply to MAIL FROM command)'
      WHEN starts_with(response['command'], 'DATA') THEN ' (in reply to DATA command)'
      WHEN starts_with(response['command'], '.') THEN ' (in reply to end of DATA command)'
      WHEN starts_with(response['command'], 'EHLO') THEN ' (in reply to EHLO command)'
      ELSE ''
    END AS stage,
    CASE
      WHEN type = 'broken' THEN unfit(text)
      WHEN type = 'Feedback' THEN NULL
      WHEN at_us IS NULL THEN 'no time'
      WHEN NOT coalesce(list_aggregate(list_transform(recipients, lambda item: coalesce(contains(item, '@'), false)), 'bool_and'), false)
        THEN 'no recipient'
    END AS unfit,
    CASE WHEN unfit IS NOT NULL THEN left(text, 2000) END AS lost
  FROM worded
  CROSS JOIN params
),
told AS (
  SELECT *, bare_address(item) AS address, CASE WHEN id = '' THEN concat(bare_address(item), '/', at_us) ELSE id END AS qid
  FROM (SELECT *, unnest(recipients) AS item FROM record WHERE at_us IS NOT NULL)
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
  sender,
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
      WHEN left(coalesce(enhanced, code::VARCHAR), 1) = '4' AND enhanced IS DISTINCT FROM '4.4.7' THEN 'deferred'
      WHEN left(coalesce(enhanced, code::VARCHAR), 1) = '2' THEN 'sent'
      ELSE 'returned'
    END
  END AS status,
  code,
  enhanced,
  CASE WHEN type NOT IN ('Reception', 'Feedback', 'OOB') AND at_us >= begun_us THEN at_us - begun_us END AS delay,
  CASE WHEN left(reply, 1) <> '2' THEN concat(reply, stage) END AS reply,
  bracketed(message_id) AS message_id,
  size,
  nrcpt
FROM told
WHERE contains(address, '@')
UNION ALL BY NAME
SELECT at_us, host, '' AS instance, id AS qid, 'header' AS kind, line, header_text(entry['key'], first_of(entry['value'])) AS text
FROM (SELECT at_us, host, id, line, unnest(extra) AS entry FROM record WHERE at_us IS NOT NULL AND id <> '' AND len(extra) > 0)
WHERE lower(entry['key']) <> 'message-id' AND entry['value'] <> ''
UNION ALL BY NAME
SELECT DISTINCT 0 AS at_us, '' AS host, '' AS instance, '' AS qid, 'rejected' AS kind, line, unfit AS reply, lost AS text
FROM record
WHERE unfit IS NOT NULL
