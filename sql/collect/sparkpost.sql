-- Purpose: events of SparkPost: its webhooks (lists of `msys`), pages of its events API (`results`), events one a line. An
--   out-of-band bounce came after a delivery; a generation failure or rejection was never sent. A spam complaint or an
--   unsubscription becomes a `complaint`; auto-replies, opens, clicks and pings say nothing here. Recipient metadata is headers.
-- Format: sparkpost, SparkPost's webhooks and events
-- Version: 1
-- Input: json
-- Detect: "msys"\s*:\s*\{
-- Detect: "type"\s*:\s*"(?:bounce|delivery|delay|injection|out_of_band|policy_rejection|generation_(?:failure|rejection))".*"transmission_id"
-- Detect: "transmission_id".*"type"\s*:\s*"(?:bounce|delivery|delay|injection|out_of_band|policy_rejection|generation_(?:failure|rejection))"
-- Facts: developers.sparkpost.com/api: webhooks, events; support.sparkpost.com: bounce classification codes.
-- Parameters: ref_year, ref_month, ref_day (stand for the time of an event without one). Reads lines(line, text).
-- Columns: those of sql/collect/postfix.sql.
WITH document AS (
  SELECT line, text, TRY(json_transform(listed_in(text, 'results'), '["JSON"]')) AS told
  FROM lines
  WHERE filled(text)
),
typed AS (
  SELECT
    *,
    CASE
      WHEN said['type'] IN ('bounce', 'out_of_band') AND said['bounce_class'] IN ('60', '80', '100') THEN NULL
      WHEN said['type'] IN ('bounce', 'out_of_band') AND said['bounce_class'] = '90' THEN 'list_unsubscribe'
      ELSE said['type']
    END AS type
  FROM (
    SELECT
      line,
      text,
      json_transform(coalesce(
        body -> '$.msys.message_event', body -> '$.msys.gen_event', body -> '$.msys.unsubscribe_event', body
      ), '{
        "type": "VARCHAR", "bounce_class": "VARCHAR", "timestamp": "VARCHAR", "raw_rcpt_to": "VARCHAR", "rcpt_to": "VARCHAR",
        "msg_from": "VARCHAR", "raw_reason": "VARCHAR", "reason": "VARCHAR", "error_code": "VARCHAR", "ip_address": "VARCHAR",
        "queue_time": "BIGINT", "msg_size": "BIGINT", "message_id": "VARCHAR", "transmission_id": "VARCHAR",
        "rcpt_meta": "MAP(VARCHAR, VARCHAR)"}') AS said
    FROM (SELECT line, text, unnest(told) AS body FROM document WHERE told IS NOT NULL)
  )
),
event AS (
  SELECT
    line,
    text,
    said,
    type,
    tight(coalesce(nullif(said['raw_rcpt_to'], ''), said['rcpt_to'])) AS address,
    coalesce(moment_us(said['timestamp']), epoch_us(make_date(ref_year, ref_month, ref_day)::TIMESTAMPTZ)) AS at_us,
    bare_reply(coalesce(nullif(said['raw_reason'], ''), said['reason'])) AS words
  FROM typed
  CROSS JOIN params
  WHERE type IN (
    'bounce', 'out_of_band', 'delay', 'delivery', 'injection', 'policy_rejection', 'generation_failure',
    'generation_rejection', 'spam_complaint', 'list_unsubscribe', 'link_unsubscribe'
  )
),
keyed AS (
  SELECT
    *,
    coalesce(nullif(said['message_id'], ''), nullif(said['transmission_id'], ''), concat(address, '/', at_us)) AS qid,
    told_enhanced(words) AS enhanced
  FROM event
)
SELECT * FROM no_event
UNION ALL BY NAME
SELECT
  at_us,
  'sparkpost' AS host,
  '' AS instance,
  qid,
  CASE
    WHEN type = 'injection' THEN accepted_kind(said['msg_from'])
    WHEN type IN ('spam_complaint', 'list_unsubscribe', 'link_unsubscribe') THEN 'complaint'
    ELSE 'attempt'
  END AS kind,
  line,
  said['msg_from'] AS sender,
  CASE WHEN type <> 'injection' THEN address END AS recipient,
  CASE WHEN type IN ('bounce', 'delay', 'delivery') THEN said['ip_address'] END AS relay_ip,
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
    ELSE coalesce(told_code(words), CASE WHEN regexp_matches(said['error_code'], '^[245][0-9]{2}$') THEN TRY_CAST(said['error_code'] AS INTEGER) END)
  END AS code,
  enhanced,
  CASE WHEN type IN ('bounce', 'delay', 'delivery') THEN TRY(said['queue_time'] * 1000) END AS delay,
  CASE WHEN type NOT IN ('delivery', 'injection') THEN words END AS reply,
  coalesce(said['transmission_id'], said['message_id']) AS message_id,
  CASE WHEN type = 'injection' THEN said['msg_size'] END AS size,
  CASE WHEN type = 'injection' THEN header_text('Event', type) END AS text
FROM keyed
WHERE contains(address, '@')
UNION ALL BY NAME
SELECT at_us, 'sparkpost' AS host, '' AS instance, qid, 'header' AS kind, line, header_text(entry['key'], entry['value']) AS text
FROM (SELECT at_us, qid, line, unnest(map_entries(said['rcpt_meta'])) AS entry FROM keyed)
UNION ALL BY NAME
SELECT DISTINCT 0 AS at_us, '' AS host, '' AS instance, '' AS qid, 'rejected' AS kind, line, reply, left(text, 2000) AS text
FROM (
  SELECT line, unfit(text) AS reply, text FROM document WHERE told IS NULL
  UNION ALL
  SELECT line, 'no recipient' AS reply, text FROM event WHERE coalesce(position('@' IN address), 0) = 0
)
