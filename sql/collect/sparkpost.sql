-- Purpose: events of SparkPost: its webhooks (lists of `msys`), pages of its events API (`results`), events one a line. An
--   out-of-band bounce came after a delivery; a generation failure or rejection was never sent. A spam complaint or an
--   unsubscription becomes a `complaint`; auto-replies, opens, clicks and pings say nothing here. Recipient metadata is headers.
-- Format: sparkpost, SparkPost's webhooks and events
-- Version: 2
-- Input: json
-- Detect: "msys"\s*:\s*\{
-- Detect: "type"\s*:\s*"(?:bounce|delivery|delay|injection|out_of_band|policy_rejection|generation_(?:failure|rejection))".*"transmission_id"
-- Detect: "transmission_id".*"type"\s*:\s*"(?:bounce|delivery|delay|injection|out_of_band|policy_rejection|generation_(?:failure|rejection))"
-- Facts: developers.sparkpost.com/api: webhooks, events; support.sparkpost.com: bounce classification codes.
-- Parameters: ref_year, ref_month, ref_day (stand for the time of an event without one). Reads lines(line, text).
-- Columns: those of sql/collect/postfix.sql.
WITH document AS (
  SELECT
    line,
    text,
    unnest(coalesce(
      CASE
        WHEN contains(text, 'msys"') THEN list_transform(
          TRY(json_transform(
            -- its samples of events are a page of webhooks
            CASE WHEN contains(left(text, 24), 'results"') THEN listed_in(text, 'results') ELSE listed(text) END, '[{"msys": {"message_event": {"type": "VARCHAR", "bounce_class": "VARCHAR", "timestamp": "VARCHAR", "raw_rcpt_to": "VARCHAR", "rcpt_to": "VARCHAR",
        "msg_from": "VARCHAR", "raw_reason": "VARCHAR", "reason": "VARCHAR", "error_code": "VARCHAR", "ip_address": "VARCHAR",
        "queue_time": "BIGINT", "msg_size": "BIGINT", "message_id": "VARCHAR", "transmission_id": "VARCHAR",
        "rcpt_meta": "MAP(VARCHAR, VARCHAR)", "subject": "VARCHAR"}, "gen_event": {"type": "VARCHAR", "bounce_class": "VARCHAR", "timestamp": "VARCHAR", "raw_rcpt_to": "VARCHAR", "rcpt_to": "VARCHAR",
        "msg_from": "VARCHAR", "raw_reason": "VARCHAR", "reason": "VARCHAR", "error_code": "VARCHAR", "ip_address": "VARCHAR",
        "queue_time": "BIGINT", "msg_size": "BIGINT", "message_id": "VARCHAR", "transmission_id": "VARCHAR",
        "rcpt_meta": "MAP(VARCHAR, VARCHAR)", "subject": "VARCHAR"}, "unsubscribe_event": {"type": "VARCHAR", "bounce_class": "VARCHAR", "timestamp": "VARCHAR", "raw_rcpt_to": "VARCHAR", "rcpt_to": "VARCHAR",
        "msg_from": "VARCHAR", "raw_reason": "VARCHAR", "reason": "VARCHAR", "error_code": "VARCHAR", "ip_address": "VARCHAR",
        "queue_time": "BIGINT", "msg_size": "BIGINT", "message_id": "VARCHAR", "transmission_id": "VARCHAR",
        "rcpt_meta": "MAP(VARCHAR, VARCHAR)", "subject": "VARCHAR"}}}]')),
          lambda item: coalesce(item['msys']['message_event'], item['msys']['gen_event'], item['msys']['unsubscribe_event'])
        )
        ELSE TRY(json_transform(listed_in(text, 'results'), '[{"type": "VARCHAR", "bounce_class": "VARCHAR", "timestamp": "VARCHAR", "raw_rcpt_to": "VARCHAR", "rcpt_to": "VARCHAR",
        "msg_from": "VARCHAR", "raw_reason": "VARCHAR", "reason": "VARCHAR", "error_code": "VARCHAR", "ip_address": "VARCHAR",
        "queue_time": "BIGINT", "msg_size": "BIGINT", "message_id": "VARCHAR", "transmission_id": "VARCHAR",
        "rcpt_meta": "MAP(VARCHAR, VARCHAR)", "subject": "VARCHAR"}]'))
      END, [{'type': 'broken'}]
    )) AS said
  FROM lines
  WHERE filled(text)
),
event AS (
  -- only what is needed from here on: the records are long
  SELECT
    line,
    type,
    address,
    at_us,
    coalesce(nullif(said['message_id'], ''), nullif(said['transmission_id'], ''), concat(address, '/', at_us)) AS qid,
    said['msg_from'] AS sender,
    said['ip_address'] AS ip,
    said['error_code'] AS error_code,
    said['queue_time'] AS queue_ms,
    said['msg_size'] AS size,
    coalesce(said['transmission_id'], said['message_id']) AS message_id,
    CASE WHEN type <> 'injection' AND (type <> 'delivery' OR said['queue_time'] > 60000) THEN list_concat(
      map_entries(said['rcpt_meta']), [{'key': 'Subject', 'value': said['subject']}]
    ) END AS meta,
    words,
    told_enhanced(words) AS enhanced,
    CASE WHEN type = 'broken' OR coalesce(position('@' IN address), 0) = 0 THEN left(text, 2000) END AS lost
  FROM (
    SELECT
      line,
      text,
      said,
      CASE
        WHEN said['type'] IN ('bounce', 'out_of_band') THEN CASE
          WHEN said['bounce_class'] IN ('60', '80', '100') THEN NULL
          WHEN said['bounce_class'] = '90' THEN 'list_unsubscribe'
          ELSE said['type']
        END
        ELSE said['type']
      END AS type,
      tight(coalesce(nullif(said['raw_rcpt_to'], ''), said['rcpt_to'])) AS address,
      coalesce(moment_us(said['timestamp']), epoch_us(make_date(ref_year, ref_month, ref_day)::TIMESTAMPTZ)) AS at_us,
      CASE
        WHEN said['bounce_class'] <> '' THEN own_word(concat('bounce class ', CASE said['bounce_class']
          WHEN '10' THEN 'Invalid Recipient' WHEN '20' THEN 'Soft Bounce' WHEN '21' THEN 'DNS Failure'
          WHEN '22' THEN 'Mailbox Full' WHEN '23' THEN 'Too Large' WHEN '24' THEN 'Timeout' WHEN '25' THEN 'Admin Failure'
          WHEN '26' THEN 'Smart Send Suppression' WHEN '30' THEN 'Generic Bounce: No RCPT' WHEN '40' THEN 'Generic Bounce'
          WHEN '50' THEN 'Mail Block' WHEN '51' THEN 'Spam Block' WHEN '52' THEN 'Spam Content'
          WHEN '53' THEN 'Prohibited Attachment' WHEN '54' THEN 'Relaying Denied' WHEN '70' THEN 'Transient Failure'
          WHEN '90' THEN 'Unsubscribe' ELSE said['bounce_class']
        END), told)
        ELSE told
      END AS words
    FROM (SELECT *, bare_reply(coalesce(nullif(said['raw_reason'], ''), said['reason'])) AS told FROM document)
    CROSS JOIN params
  )
  WHERE type IN (
    'bounce', 'out_of_band', 'delay', 'delivery', 'injection', 'policy_rejection', 'generation_failure',
    'generation_rejection', 'spam_complaint', 'list_unsubscribe', 'link_unsubscribe', 'broken'
  )
)
SELECT * FROM no_event
UNION ALL BY NAME
SELECT
  at_us,
  'sparkpost' AS host,
  '' AS instance,
  qid,
  CASE
    WHEN type = 'injection' THEN accepted_kind(sender)
    WHEN type IN ('spam_complaint', 'list_unsubscribe', 'link_unsubscribe') THEN 'complaint'
    ELSE 'attempt'
  END AS kind,
  line,
  sender,
  CASE WHEN type <> 'injection' THEN address END AS recipient,
  CASE WHEN type IN ('bounce', 'delay', 'delivery') THEN ip END AS relay_ip,
  CASE type
    WHEN 'delivery' THEN 'sent'
    WHEN 'delay' THEN 'deferred'
    WHEN 'out_of_band' THEN 'returned'
    WHEN 'bounce' THEN CASE enhanced WHEN '5.4.7' THEN 'expired' ELSE 'bounced' END
    WHEN 'policy_rejection' THEN 'bounced'
    WHEN 'generation_failure' THEN 'bounced'
    WHEN 'generation_rejection' THEN 'bounced'
  END AS status,
  CASE
    WHEN type = 'delivery' THEN 250
    ELSE coalesce(told_code(words), CASE WHEN regexp_matches(error_code, '^[245][0-9]{2}$') THEN TRY_CAST(error_code AS INTEGER) END)
  END AS code,
  enhanced,
  CASE WHEN type IN ('bounce', 'delay', 'delivery') THEN TRY(queue_ms * 1000) END AS delay,
  CASE WHEN type NOT IN ('delivery', 'injection') THEN words END AS reply,
  message_id,
  CASE WHEN type = 'injection' THEN size END AS size,
  CASE WHEN type = 'injection' THEN 'header Event: injection' END AS text
FROM event
WHERE lost IS NULL
UNION ALL BY NAME
SELECT at_us, 'sparkpost' AS host, '' AS instance, qid, 'header' AS kind, line, header_text(entry['key'], entry['value']) AS text
FROM (SELECT at_us, qid, line, unnest(meta) AS entry FROM event WHERE len(meta) > 0 AND lost IS NULL)
WHERE entry['value'] <> ''
UNION ALL BY NAME
SELECT DISTINCT
  0 AS at_us, '' AS host, '' AS instance, '' AS qid, 'rejected' AS kind, line,
  CASE type WHEN 'broken' THEN unfit(lost) ELSE 'no recipient' END AS reply,
  lost AS text
FROM event
WHERE lost IS NOT NULL
