-- Purpose: events of SendGrid: posts of its Event Webhook (lists, or an event a line), its lists of bounces and blocks, and
--   what its Email Activity API tells (`messages`, or a message with its `events`).
--   A `bounce` may come after a delivery; a dropped mail was never sent. A spam report or an unsubscription becomes a
--   `complaint`; opens and clicks say nothing here. What the sender gave along under a name like X-Release-Id is a header.
-- Format: sendgrid, SendGrid's Event Webhook
-- Version: 2
-- Input: json
-- Detect: "sg_(?:event|message)_id"\s*:
-- Detect: "event"\s*:\s*"(?:processed|dropped|delivered|deferred|bounce)".*"smtp-id"|"smtp-id".*"event"\s*:\s*"(?:processed|dropped|delivered|deferred|bounce)"
-- Detect: \{\s*"created"\s*:\s*\d{9,10}\s*,\s*"email"\s*:.*"reason"\s*:
-- Detect: "msg_id"\s*:.*"to_email"\s*:|"to_email"\s*:.*"msg_id"\s*:
-- Facts: www.twilio.com/docs/sendgrid/for-developers/tracking-events/event; the same site's pages on bounces and blocks.
-- Parameters: ref_year, ref_month, ref_day (stand for the time of an event without one). Reads lines(line, text).
-- Columns: those of sql/collect/postfix.sql.
WITH document AS (
  SELECT
    line,
    text,
    CASE WHEN left(ltrim(substring(text, 2, 24)), 6) IN ('"messa', '"from_', '"msg_i') AND contains(text, '"msg_id"') THEN flatten(list_transform(
      TRY(json_transform(
        listed_in(text, 'messages'),
        '[{"msg_id": "VARCHAR", "to_email": "VARCHAR", "status": "VARCHAR", "last_event_time": "VARCHAR", "events": [{
          "event_name": "VARCHAR", "processed": "VARCHAR", "reason": "VARCHAR", "bounce_type": "VARCHAR"}]}]'
      )),
      lambda mail: list_transform(
        -- a list of mails says how each ended, and not why
        CASE WHEN len(mail['events']) > 0 THEN mail['events'] ELSE [{
          'event_name': CASE mail['status'] WHEN 'delivered' THEN 'delivered' WHEN 'not_delivered' THEN 'bounced' END,
          'processed': mail['last_event_time'], 'reason': NULL::VARCHAR, 'bounce_type': NULL::VARCHAR
        }] END,
        lambda step: {
          'event': CASE step['event_name'] WHEN 'bounced' THEN 'bounce' WHEN 'spam_report' THEN 'spamreport' ELSE step['event_name'] END,
          'email': mail['to_email'], 'timestamp': step['processed'], 'created': NULL::VARCHAR, 'smtp-id': NULL::VARCHAR,
          'sg_message_id': mail['msg_id'], 'reason': step['reason'], 'response': step['reason'], 'status': NULL::VARCHAR,
          'type': step['bounce_type'], 'bounce_classification': NULL::VARCHAR
        }
      )
    )) ELSE TRY(json_transform(
      listed(text),
      '[{"event": "VARCHAR", "email": "VARCHAR", "timestamp": "VARCHAR", "created": "VARCHAR", "smtp-id": "VARCHAR",
        "sg_message_id": "VARCHAR", "reason": "VARCHAR", "response": "VARCHAR", "status": "VARCHAR", "type": "VARCHAR",
        "bounce_classification": "VARCHAR"}]'
    )) END AS told
  FROM lines
  WHERE filled(text)
),
event AS MATERIALIZED (
  SELECT
    line,
    type,
    bounce,
    tight(email) AS address,
    coalesce(moment_us(event_at), epoch_us(make_date(ref_year, ref_month, ref_day)::TIMESTAMPTZ)) AS at_us,
    smtp_id,
    split_part(CASE WHEN contains(id, '.recvd') THEN split_part(id, '.recvd', 1) ELSE id END, '.filter', 1) AS id,
    CASE WHEN sort <> '' THEN own_word(sort, told) ELSE told END AS words,
    CASE WHEN regexp_matches(status, '^[245]\.[0-9]{1,3}\.[0-9]{1,3}$') THEN status END AS dsn,
    CASE WHEN coalesce(position('@' IN email), 0) = 0 THEN left(text, 2000) END AS lost
  FROM (
    SELECT
      line,
      text,
      type,
      said['type'] AS bounce,
      said['email'] AS email,
      coalesce(said['timestamp'], said['created']) AS event_at,
      said['smtp-id'] AS smtp_id,
      coalesce(said['sg_message_id'], said['smtp-id'], '') AS id,
      said['status'] AS status,
      CASE
        WHEN type = 'dropped' THEN 'dropped'
        WHEN type = 'bounce' AND said['bounce_classification'] <> ''
          THEN concat('bounce_classification ', said['bounce_classification'])
      END AS sort,
      bare_reply(CASE WHEN type IN ('bounce', 'dropped') THEN coalesce(said['reason'], '') ELSE said['response'] END) AS told
    FROM (
      SELECT
        line,
        text,
        said,
        coalesce(
          said['event'], CASE WHEN said['created'] <> '' AND said['email'] <> '' AND said['reason'] <> '' THEN 'bounce' END
        ) AS type
      FROM (SELECT line, text, unnest(told) AS said FROM document WHERE told IS NOT NULL)
    )
    WHERE type IN ('processed', 'delivered', 'deferred', 'bounce', 'dropped', 'spamreport', 'unsubscribe', 'group_unsubscribe')
  )
  CROSS JOIN params
)
SELECT * FROM no_event
UNION ALL BY NAME
SELECT
  at_us,
  'sendgrid' AS host,
  '' AS instance,
  CASE WHEN id = '' THEN concat(address, '/', at_us) WHEN starts_with(id, '<') THEN trim(id, '<>') ELSE id END AS qid,
  CASE
    WHEN type = 'processed' THEN accepted_kind('')
    WHEN type IN ('spamreport', 'unsubscribe', 'group_unsubscribe') THEN 'complaint'
    ELSE 'attempt'
  END AS kind,
  line,
  CASE WHEN type <> 'processed' THEN address END AS recipient,
  CASE type
    WHEN 'delivered' THEN 'sent'
    WHEN 'deferred' THEN 'deferred'
    WHEN 'dropped' THEN 'bounced'
    WHEN 'bounce' THEN CASE bounce WHEN 'expired' THEN 'expired' ELSE 'returned' END
  END AS status,
  told_code(words) AS code,
  coalesce(dsn, told_enhanced(words)) AS enhanced,
  CASE WHEN type <> 'delivered' THEN words END AS reply,
  bracketed(smtp_id) AS message_id,
  CASE WHEN type = 'processed' THEN header_text('Event', type) END AS text
FROM event
WHERE contains(address, '@')
UNION ALL BY NAME
SELECT
  moment_us(named['timestamp']) AS at_us,
  'sendgrid' AS host,
  '' AS instance,
  trim(split_part(split_part(coalesce(named['sg_message_id'], named['smtp-id']), '.filter', 1), '.recvd', 1), '<>') AS qid,
  'header' AS kind,
  line,
  header_text(entry['key'], entry['value']) AS text
FROM (SELECT line, named, unnest(map_entries(named)) AS entry FROM (
  SELECT line, unnest(TRY(json_transform(listed(text), '["MAP(VARCHAR, VARCHAR)"]'))) AS named
  FROM document
  WHERE told IS NOT NULL AND (contains(text, 'X-') OR contains(text, 'x-'))
))
WHERE starts_with(lower(entry['key']), 'x-') AND coalesce(named['sg_message_id'], named['smtp-id']) <> ''
  AND named['event'] IN ('delivered', 'deferred', 'bounce', 'dropped') AND moment_us(named['timestamp']) IS NOT NULL
UNION ALL BY NAME
SELECT DISTINCT 0 AS at_us, '' AS host, '' AS instance, '' AS qid, 'rejected' AS kind, line, reply, text
FROM (
  SELECT line, unfit(text) AS reply, left(text, 2000) AS text FROM document WHERE told IS NULL
  UNION ALL
  SELECT line, 'no recipient' AS reply, lost AS text FROM event WHERE lost IS NOT NULL
)
