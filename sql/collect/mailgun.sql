-- Purpose: events of Mailgun: webhooks (`event-data` with its signature), pages of its events API (`items`), events one a
--   line, and the older webhooks: the fields of a form as JSON, or the form as it was posted (`event=bounced&recipient=...`).
--   `failed` is a deferral while it is temporary. A complaint or an unsubscription becomes a `complaint`; opens and clicks
--   say nothing here. Variables that the sender gave along are headers.
-- Format: mailgun, Mailgun's webhooks and events
-- Version: 1
-- Input: json
-- Detect: "event-data"\s*:\s*\{
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
    posted,
    CASE
      WHEN posted THEN [to_json({
        'event': form_field(text, 'event'), 'recipient': form_field(text, 'recipient'),
        'timestamp': form_field(text, 'timestamp'), 'code': form_field(text, 'code'), 'error': form_field(text, 'error'),
        'description': form_field(text, 'description'), 'reason': form_field(text, 'reason'),
        'sender': form_field(text, 'sender'), 'message-headers': form_field(text, 'message-headers'),
        'Message-Id': coalesce(form_field(text, 'Message-Id'), form_field(text, 'message-id'))
      })::JSON]
      ELSE TRY(json_transform(listed_in(text, 'items'), '["JSON"]'))
    END AS told
  FROM (
    SELECT line, text, left(ltrim(text), 1) NOT IN ('{', '[', '"') AND regexp_matches(text, '(?:^|&)event=') AS posted
    FROM lines
    WHERE filled(text)
  )
),
event AS (
  SELECT
    line,
    text,
    at_us,
    type,
    said,
    variables,
    old['message-headers'] AS headers,
    CASE
      WHEN said['recipient'] IS NOT NULL THEN [trim(first_of(said['recipient']))]
      WHEN type = 'rejected' THEN regexp_extract_all(said['message']['headers']['to'], '[^\s<>,;"]+@[^\s<>,;"]+')
    END AS addresses,
    coalesce(
      said['message']['headers']['message-id'], old['message-id'],
      CASE WHEN old['message-headers'] IS NOT NULL THEN list_filter(
        TRY(json_transform(old['message-headers'], '[["VARCHAR"]]')), lambda header: lower(header[1]) = 'message-id'
      )[1][2] END
    ) AS message_id,
    coalesce(said['envelope']['sender'], old['sender']) AS sender,
    TRY_CAST(coalesce(said['delivery-status']['code'], old['code']) AS INTEGER) AS code,
    coalesce(said['delivery-status']['enhanced-code'], old['code']) AS dsn,
    one_line(coalesce(
      nullif(said['delivery-status']['message'], ''), nullif(old['error'], ''), nullif(said['delivery-status']['description'], ''),
      nullif(old['description'], ''), nullif(said['reject']['description'], ''), said['reject']['reason'], said['reason'], ''
    )) AS words
  FROM (
    SELECT
      *,
      first_of(said['event']) AS type,
      coalesce(
        moment_us(first_of(said['timestamp'])), moment_us(TRY(said['timestamp'] ->> '$[1]')),
        epoch_us(make_date(ref_year, ref_month, ref_day)::TIMESTAMPTZ)
      ) AS at_us,
      CASE WHEN said['message'] IS NULL THEN {
        'message-id': first_of(coalesce(body ->> '$."Message-Id"', body ->> '$."message-id"')),
        'message-headers': body ->> '$."message-headers"',
        'sender': first_of(body ->> '$.sender'), 'code': first_of(body ->> '$.code'),
        'error': first_of(body ->> '$.error'), 'description': first_of(body ->> '$.description')
      } END AS old
    FROM (
      SELECT
        line,
        text,
        body,
        json_transform(body, '{
          "event": "VARCHAR", "timestamp": "VARCHAR", "recipient": "VARCHAR", "severity": "VARCHAR", "reason": "VARCHAR",
          "message": {"headers": {"message-id": "VARCHAR", "to": "VARCHAR"}, "size": "BIGINT"}, "envelope": {"sender": "VARCHAR"},
          "flags": {"is-delayed-bounce": "VARCHAR"}, "reject": {"reason": "VARCHAR", "description": "VARCHAR"},
          "delivery-status": {"code": "VARCHAR", "message": "VARCHAR", "description": "VARCHAR", "mx-host": "VARCHAR",
            "attempt-no": "VARCHAR", "enhanced-code": "VARCHAR"}}') AS said,
        CASE WHEN contains(text, 'user-variables"') THEN json_transform(body, '{"user-variables": "MAP(VARCHAR, VARCHAR)"}')
        END['user-variables'] AS variables
      FROM (
        SELECT line, text, coalesce(body -> '$."event-data"', body) AS body
        FROM (SELECT line, text, unnest(told) AS body FROM document WHERE told IS NOT NULL)
      )
      WHERE json_type(body) = 'OBJECT'
    )
    CROSS JOIN params
  )
  WHERE type IN (
    'accepted', 'delivered', 'failed', 'rejected', 'complained', 'unsubscribed', 'bounced', 'dropped'
  )
),
worded AS (
  SELECT
    *,
    coalesce(nullif(trim(message_id, '<> '), ''), concat(address, '/', at_us)) AS qid,
    CASE
      WHEN code BETWEEN 200 AND 599 AND words <> '' AND NOT starts_with(bare_reply(words), code::VARCHAR)
        THEN concat(code, ' ', bare_reply(words))
      ELSE bare_reply(words)
    END AS reply
  FROM (SELECT *, unnest(CASE WHEN len(addresses) > 0 THEN addresses ELSE [NULL] END) AS address FROM event)
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
  bare_address(sender) AS sender,
  CASE WHEN type <> 'accepted' THEN address END AS recipient,
  lower(said['delivery-status']['mx-host']) AS relay,
  CASE
    WHEN type = 'delivered' THEN 'sent'
    WHEN type = 'rejected' THEN 'bounced'
    WHEN type = 'failed' AND said['severity'] = 'temporary' THEN 'deferred'
    WHEN type IN ('failed', 'dropped') AND said['reason'] = 'old' THEN 'expired'
    WHEN type = 'dropped' OR starts_with(said['reason'], 'suppress-') THEN 'bounced'
    WHEN type = 'bounced' OR said['flags']['is-delayed-bounce'] = 'true' THEN 'returned'
    WHEN type = 'failed'
      THEN CASE WHEN said['delivery-status']['mx-host'] <> '' OR said['flags']['is-delayed-bounce'] = 'false' THEN 'bounced' ELSE 'returned' END
  END AS status,
  coalesce(CASE WHEN code BETWEEN 200 AND 599 THEN code END, told_code(reply)) AS code,
  coalesce(
    CASE WHEN regexp_matches(dsn, '^[245]\.[0-9]{1,3}\.[0-9]{1,3}$') THEN dsn END, told_enhanced(reply)
  ) AS enhanced,
  CASE WHEN type IN ('failed', 'rejected', 'bounced', 'dropped') THEN reply END AS reply,
  bracketed(message_id) AS message_id,
  said['message']['size'] AS size,
  CASE WHEN type = 'accepted' THEN header_text('Event', type) END AS text
FROM worded
WHERE contains(address, '@') OR type = 'accepted' AND message_id <> ''
UNION ALL BY NAME
SELECT at_us, 'mailgun' AS host, '' AS instance, qid, 'header' AS kind, line, header_text(entry['key'], entry['value']) AS text
FROM (SELECT at_us, qid, line, unnest(map_entries(variables)) AS entry FROM worded WHERE variables IS NOT NULL)
UNION ALL BY NAME
SELECT at_us, 'mailgun' AS host, '' AS instance, qid, 'header' AS kind, line, header_text(header[1], header[2]) AS text
FROM (
  SELECT at_us, qid, line, unnest(TRY(json_transform(headers, '[["VARCHAR"]]'))) AS header FROM worded WHERE headers IS NOT NULL
)
WHERE starts_with(lower(header[1]), 'x-') AND NOT starts_with(lower(header[1]), 'x-mailgun-')
UNION ALL BY NAME
SELECT DISTINCT 0 AS at_us, '' AS host, '' AS instance, '' AS qid, 'rejected' AS kind, line, reply, left(text, 2000) AS text
FROM (
  SELECT line, unfit(text) AS reply, text FROM document WHERE told IS NULL
  UNION ALL
  SELECT line, 'no recipient' AS reply, text
  FROM worded
  WHERE coalesce(position('@' IN address), 0) = 0 AND type <> 'accepted'
)
