-- Purpose: events of Mailgun: webhooks (`event-data` with its signature), pages of its events API (`items`), events one a
--   line, and the older webhooks: the fields of a form as JSON, or the form as it was posted (`event=bounced&recipient=...`).
--   `failed` is a deferral while it is temporary. A complaint or an unsubscription becomes a `complaint`; opens and clicks
--   say nothing here. Variables that the sender gave along are headers.
-- Format: mailgun, Mailgun's webhooks and events
-- Version: 3
-- Input: json
-- Detect: "event-data"\s*:\s*\{
-- Detect: "event"\s*:.*"delivery-status"\s*:\s*\{|"delivery-status"\s*:\s*\{.*"event"\s*:
-- Detect: "log-level"\s*:.*"event"\s*:|"event"\s*:.*"log-level"\s*:
-- Detect: "event"\s*:.*"token"\s*:.*"signature"\s*:|"token"\s*:.*"signature"\s*:.*"event"\s*:|"event"\s*:.*"signature"\s*:.*"token"\s*:
-- Detect: "event"\s*:.*"message-headers"\s*:|"message-headers"\s*:.*"event"\s*:|"X-Mailgun-Sid"
-- Detect: ^(?:.*&)?event=[a-z_]+(?:&.*)?(?:&(?:token|signature|X-Mailgun-Sid)=|$)
-- Facts: documentation.mailgun.com: events, webhooks; the older fields from its archived pages.
-- Parameters: ref_year, ref_month, ref_day (stand for the time of an event without one). Reads lines(line, text).
-- Columns: those of sql/collect/postfix.sql.
WITH document AS (
  SELECT
    line,
    text,
    unnest(coalesce(
      CASE
        WHEN contains(text, 'event-data"') THEN list_transform(
          TRY(json_transform(listed(text), '[{"event-data": {
          "event": "VARCHAR", "timestamp": "VARCHAR", "@timestamp": "VARCHAR", "recipient": "VARCHAR", "severity": "VARCHAR", "reason": "VARCHAR",
          "message": {"headers": {"message-id": "VARCHAR", "to": "VARCHAR", "subject": "VARCHAR"}, "size": "BIGINT"},
          "envelope": {"sender": "VARCHAR"}, "flags": {"is-delayed-bounce": "VARCHAR"},
          "reject": {"reason": "VARCHAR", "description": "VARCHAR"},
          "delivery-status": {"code": "VARCHAR", "message": "VARCHAR", "description": "VARCHAR", "mx-host": "VARCHAR",
            "enhanced-code": "VARCHAR", "bounce-code": "VARCHAR"},
          "user-variables": "VARCHAR", "Message-Id": "VARCHAR", "message-headers": "VARCHAR", "sender": "VARCHAR",
          "code": "VARCHAR", "error": "VARCHAR", "description": "VARCHAR"}}]')), lambda item: item['event-data']
        )
        ELSE TRY(json_transform(
          CASE
            WHEN left(text, 1) NOT IN ('{', '[', '"') AND regexp_matches(text, '(?:^|&)event=') THEN concat('[', to_json({
              'event': form_field(text, 'event'), 'recipient': form_field(text, 'recipient'),
              'timestamp': form_field(text, 'timestamp'), 'code': form_field(text, 'code'), 'error': form_field(text, 'error'),
              'description': form_field(text, 'description'), 'reason': form_field(text, 'reason'),
              'sender': form_field(text, 'sender'), 'message-headers': form_field(text, 'message-headers'),
              'Message-Id': coalesce(form_field(text, 'Message-Id'), form_field(text, 'message-id'))
            }), ']')
            WHEN contains(text, 'log-level"') OR contains(text, 'delivery-status"') THEN listed_in(text, 'items')
            ELSE listed_in(replace(text, '"message-id":', '"Message-Id":'), 'items')
          END,
          '[{
          "event": "VARCHAR", "timestamp": "VARCHAR", "@timestamp": "VARCHAR", "recipient": "VARCHAR", "severity": "VARCHAR", "reason": "VARCHAR",
          "message": {"headers": {"message-id": "VARCHAR", "to": "VARCHAR", "subject": "VARCHAR"}, "size": "BIGINT"},
          "envelope": {"sender": "VARCHAR"}, "flags": {"is-delayed-bounce": "VARCHAR"},
          "reject": {"reason": "VARCHAR", "description": "VARCHAR"},
          "delivery-status": {"code": "VARCHAR", "message": "VARCHAR", "description": "VARCHAR", "mx-host": "VARCHAR",
            "enhanced-code": "VARCHAR", "bounce-code": "VARCHAR"},
          "user-variables": "VARCHAR", "Message-Id": "VARCHAR", "message-headers": "VARCHAR", "sender": "VARCHAR",
          "code": "VARCHAR", "error": "VARCHAR", "description": "VARCHAR"}]'
        ))
      END, [{'event': 'broken'}]
    )) AS said
  FROM lines
  WHERE filled(text)
),
typed AS (
  SELECT *, first_of(said['event']) AS type, said['delivery-status'] AS answer, said['message'] AS message
  FROM document
  CROSS JOIN params
),
event AS (
  SELECT
    line,
    text,
    said,
    type,
    answer,
    message['size'] AS size,
    coalesce(
      moment_us(first_of(said['timestamp'])), moment_us(said['@timestamp']), moment_us(TRY(said['timestamp'] ->> '$[1]')),
      epoch_us(make_date(ref_year, ref_month, ref_day)::TIMESTAMPTZ)
    ) AS at_us,
    CASE
      WHEN said['recipient'] IS NOT NULL THEN [tight(first_of(said['recipient']))]
      WHEN type = 'rejected' THEN regexp_extract_all(message['headers']['to'], '[^\s<>,;"]+@[^\s<>,;"]+')
    END AS addresses,
    coalesce(
      message['headers']['message-id'], first_of(said['Message-Id']),
      CASE WHEN said['message-headers'] IS NOT NULL THEN list_filter(
        TRY(json_transform(said['message-headers'], '[["VARCHAR"]]')), lambda header: lower(header[1]) = 'message-id'
      )[1][2] END
    ) AS message_id,
    bare_address(coalesce(said['envelope']['sender'], first_of(said['sender']))) AS sender,
    coalesce(answer['enhanced-code'], answer['bounce-code'], said['code']) AS dsn,
    TRY_CAST(coalesce(answer['code'], first_of(said['code'])) AS INTEGER) AS code,
    CASE WHEN type IN ('failed', 'rejected', 'bounced', 'dropped') THEN coalesce(
      nullif(answer['message'], ''), nullif(first_of(said['error']), ''), nullif(answer['description'], ''),
      nullif(first_of(said['description']), ''), nullif(said['reject']['description'], ''), said['reject']['reason'], said['reason'], ''
    ) END AS told
  FROM typed
  WHERE type IN (
    'accepted', 'delivered', 'failed', 'rejected', 'complained', 'unsubscribed', 'bounced', 'dropped', 'broken'
  )
),
answered AS (
  -- why: codes of its own say that Mailgun held the mail back, also where no reason stands beside them
  SELECT
    *,
    bare_reply(told) AS words,
    coalesce(nullif(said['reason'], ''), CASE code
      WHEN 605 THEN 'suppress-bounce' WHEN 606 THEN 'suppress-unsubscribe' WHEN 607 THEN 'suppress-complaint'
    END) AS why
  FROM event
),
worded AS MATERIALIZED (
  -- only what is needed from here on: the records are long
  SELECT
    line,
    type,
    at_us,
    address,
    message_id,
    coalesce(nullif(trim(message_id, '<> '), ''), concat(address, '/', at_us)) AS qid,
    sender,
    size,
    code,
    dsn,
    said['severity'] AS severity,
    why AS reason,
    said['flags']['is-delayed-bounce'] AS delayed,
    answer['mx-host'] AS mx,
    CASE WHEN type NOT IN ('accepted', 'complained', 'unsubscribed') THEN list_concat(
      CASE WHEN said['user-variables'] <> '{}' THEN map_entries(TRY(json_transform(said['user-variables'], '"MAP(VARCHAR, VARCHAR)"'))) END,
      [{'key': 'Subject', 'value': said['message']['headers']['subject']}]
    ) END AS variables,
    CASE WHEN said['message-headers'] IS NOT NULL THEN list_filter(
      TRY(json_transform(said['message-headers'], '[["VARCHAR"]]')),
      lambda header: starts_with(lower(header[1]), 'x-') AND NOT starts_with(lower(header[1]), 'x-mailgun-')
    ) END AS headers,
    CASE
      WHEN code BETWEEN 200 AND 599 AND words <> '' AND NOT starts_with(words, code::VARCHAR) THEN concat(code, ' ', words)
      WHEN starts_with(why, 'suppress-') OR NOT coalesce(code BETWEEN 200 AND 599, false) THEN own_word(why, words)
      ELSE words
    END AS reply,
    CASE
      WHEN type = 'broken' OR (type <> 'accepted' AND coalesce(position('@' IN address), 0) = 0) THEN left(text, 2000)
    END AS lost
  FROM (SELECT *, unnest(CASE WHEN len(addresses) > 0 THEN addresses ELSE [NULL] END) AS address FROM answered)
)
SELECT * FROM no_event
UNION ALL BY NAME
SELECT
  at_us,
  'mailgun' AS host,
  '' AS instance,
  qid,
  CASE
    WHEN type = 'accepted' THEN accepted_kind(sender)
    WHEN type IN ('complained', 'unsubscribed') THEN 'complaint'
    ELSE 'attempt'
  END AS kind,
  line,
  sender,
  CASE WHEN type <> 'accepted' THEN address END AS recipient,
  lower(mx) AS relay,
  CASE
    WHEN type = 'delivered' THEN 'sent'
    WHEN type = 'rejected' THEN 'bounced'
    WHEN type = 'failed' AND severity = 'temporary' THEN 'deferred'
    WHEN type IN ('failed', 'dropped') AND reason = 'old' THEN 'expired'
    WHEN type = 'dropped' OR starts_with(reason, 'suppress-') THEN 'bounced'
    WHEN type = 'bounced' OR delayed = 'true' THEN 'returned'
    WHEN type = 'failed'
      THEN CASE WHEN mx <> '' OR delayed = 'false' THEN 'bounced' ELSE 'returned' END
  END AS status,
  coalesce(CASE WHEN code BETWEEN 200 AND 599 THEN code END, told_code(reply)) AS code,
  coalesce(
    CASE WHEN regexp_matches(dsn, '^[245]\.[0-9]{1,3}\.[0-9]{1,3}$') THEN dsn END, told_enhanced(reply)
  ) AS enhanced,
  reply,
  bracketed(message_id) AS message_id,
  size,
  CASE WHEN type = 'accepted' THEN 'header Event: accepted' END AS text
FROM worded
WHERE contains(address, '@') OR type = 'accepted' AND message_id <> ''
UNION ALL BY NAME
SELECT at_us, 'mailgun' AS host, '' AS instance, qid, 'header' AS kind, line, header_text(entry['key'], entry['value']) AS text
FROM (SELECT at_us, qid, line, unnest(variables) AS entry FROM worded WHERE len(variables) > 0 AND lost IS NULL)
WHERE entry['value'] <> ''
UNION ALL BY NAME
SELECT at_us, 'mailgun' AS host, '' AS instance, qid, 'header' AS kind, line, header_text(header[1], header[2]) AS text
FROM (SELECT at_us, qid, line, unnest(headers) AS header FROM worded WHERE len(headers) > 0 AND lost IS NULL)
UNION ALL BY NAME
SELECT DISTINCT
  0 AS at_us, '' AS host, '' AS instance, '' AS qid, 'rejected' AS kind, line,
  CASE type WHEN 'broken' THEN unfit(lost) ELSE 'no recipient' END AS reply,
  lost AS text
FROM worded
WHERE lost IS NOT NULL
