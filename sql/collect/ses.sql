-- Purpose: events of Amazon SES: notifications (`notificationType`) and published events (`eventType`), bare, or as the
--   string `Message` of an SNS notification, inside the records of a Lambda call or an SQS dump, as `detail` of EventBridge,
--   or as Firehose writes them (objects one after the other, a line or not). A bounce that SES reports for another server
--   than its own came after a delivery. A complaint becomes a `complaint`; opens, clicks and subscriptions say nothing here.
-- Format: ses, events and notifications of Amazon SES
-- Version: 1
-- Input: json
-- Detect: "(?:eventType|notificationType)\\?"\s*:\s*\\?"(?:Bounce|Complaint|Delivery|Send|Reject|Open|Click|Rendering Failure|DeliveryDelay|Subscription)\\?"
-- Detect: "TopicArn"\s*:\s*"arn:aws[\w-]*:sns:.*\\"mail\\"
-- Facts: docs.aws.amazon.com/ses/latest/dg: notification-contents, event-publishing-retrieving-sns-contents.
-- Parameters: ref_year, ref_month, ref_day (stand for the time of an event without one). Reads lines(line, text).
-- Columns: those of sql/collect/postfix.sql.
WITH wrapped AS (
  SELECT
    line,
    text,
    CASE
      WHEN contains(text, 'Records"') OR contains(text, 'Messages"') THEN TRY(list_transform(
        json_transform(
          coalesce(json_extract(text, '$.Records'), json_extract(text, '$.Messages')),
          '["JSON"]'
        ),
        lambda record: coalesce(record ->> '$.Sns', record ->> '$.body', record ->> '$.Body')
      ))
      WHEN contains(text, '}{') THEN string_split(replace(text, '}{', concat('}', chr(10), '{')), chr(10))
      ELSE [text]
    END AS inside
  FROM lines
  WHERE filled(text)
),
opened AS (
  SELECT line, text, unnest(coalesce(inside, [text])) AS body FROM wrapped
),
enveloped AS (
  SELECT
    line,
    text,
    body,
    CASE
      WHEN contains(body, 'Message"') OR contains(body, 'detail"') THEN TRY(json_transform(
        listed(body), '[{"Message": "VARCHAR", "detail": "VARCHAR", "Timestamp": "VARCHAR", "time": "VARCHAR"}]'
      ))
      ELSE [NULL]
    END AS envelopes
  FROM opened
),
document AS (
  SELECT
    line,
    text,
    coalesce(envelope['Timestamp'], envelope['time']) AS told_at,
    TRY(json_transform(
      listed(CASE
        -- SNS itself says in plain words that a topic was subscribed or tested
        WHEN left(ltrim(envelope['Message']), 1) IN ('{', '[') THEN envelope['Message']
        ELSE coalesce(envelope['detail'], body)
      END),
      '[{"eventType": "VARCHAR", "notificationType": "VARCHAR",
        "mail": {"timestamp": "VARCHAR", "source": "VARCHAR", "messageId": "VARCHAR", "destination": ["VARCHAR"],
          "headers": [{"name": "VARCHAR", "value": "VARCHAR"}], "commonHeaders": {"messageId": "VARCHAR"}},
        "bounce": {"bounceType": "VARCHAR", "bounceSubType": "VARCHAR", "timestamp": "VARCHAR", "reportingMTA": "VARCHAR",
          "remoteMtaIp": "VARCHAR",
          "bouncedRecipients": [{"emailAddress": "VARCHAR", "status": "VARCHAR", "diagnosticCode": "VARCHAR"}]},
        "deliveryDelay": {"delayType": "VARCHAR", "timestamp": "VARCHAR",
          "delayedRecipients": [{"emailAddress": "VARCHAR", "status": "VARCHAR", "diagnosticCode": "VARCHAR"}]},
        "delivery": {"timestamp": "VARCHAR", "recipients": ["VARCHAR"], "smtpResponse": "VARCHAR", "remoteMtaIp": "VARCHAR"},
        "complaint": {"timestamp": "VARCHAR",
          "complainedRecipients": [{"emailAddress": "VARCHAR", "status": "VARCHAR", "diagnosticCode": "VARCHAR"}]},
        "reject": {"reason": "VARCHAR"}, "failure": {"errorMessage": "VARCHAR"}}]'
    )) AS told
  FROM (SELECT line, text, body, unnest(coalesce(envelopes, [NULL])) AS envelope FROM enveloped)
),
event AS (
  SELECT
    line,
    text,
    said,
    type,
    coalesce(said['mail']['messageId'], '') AS id,
    moment_us(said['mail']['timestamp']) AS begun_us,
    coalesce(
      moment_us(CASE type
        WHEN 'Bounce' THEN said['bounce']['timestamp']
        WHEN 'Delivery' THEN said['delivery']['timestamp']
        WHEN 'DeliveryDelay' THEN said['deliveryDelay']['timestamp']
        WHEN 'Complaint' THEN said['complaint']['timestamp']
        WHEN 'Send' THEN said['mail']['timestamp']
      END),
      moment_us(told_at),
      moment_us(said['mail']['timestamp']),
      epoch_us(make_date(ref_year, ref_month, ref_day)::TIMESTAMPTZ)
    ) AS at_us,
    coalesce(
      said['mail']['commonHeaders']['messageId'],
      list_filter(said['mail']['headers'], lambda header: lower(header['name']) = 'message-id')[1]['value'],
      said['mail']['messageId']
    ) AS message_id,
    CASE type
      WHEN 'Bounce' THEN said['bounce']['bouncedRecipients']
      WHEN 'DeliveryDelay' THEN said['deliveryDelay']['delayedRecipients']
      WHEN 'Complaint' THEN said['complaint']['complainedRecipients']
      ELSE list_transform(
        coalesce(CASE WHEN type = 'Delivery' THEN said['delivery']['recipients'] END, said['mail']['destination'], [NULL]),
        lambda address: {'emailAddress': address, 'status': NULL::VARCHAR, 'diagnosticCode': NULL::VARCHAR}
      )
    END AS recipients
  FROM (
    SELECT *, coalesce(said['eventType'], said['notificationType']) AS type
    FROM (SELECT line, text, told_at, unnest(told) AS said FROM document WHERE told IS NOT NULL)
  )
  CROSS JOIN params
  WHERE type IN ('Bounce', 'DeliveryDelay', 'Delivery', 'Send', 'Reject', 'Rendering Failure', 'Complaint')
),
worded AS (
  SELECT
    *,
    bare_address(rcpt['emailAddress']) AS address,
    nullif(regexp_extract(coalesce(rcpt['status'], ''), '^[245]\.[0-9]{1,3}\.[0-9]{1,3}$'), '') AS dsn,
    CASE type
      WHEN 'Bounce' THEN coalesce(
        bare_reply(nullif(rcpt['diagnosticCode'], '')),
        concat_ws(': ', said['bounce']['bounceType'], said['bounce']['bounceSubType'])
      )
      WHEN 'DeliveryDelay' THEN coalesce(bare_reply(nullif(rcpt['diagnosticCode'], '')), said['deliveryDelay']['delayType'])
      WHEN 'Reject' THEN concat('rejected by SES: ', said['reject']['reason'])
      WHEN 'Rendering Failure' THEN concat('rendering failure: ', one_line(said['failure']['errorMessage']))
      WHEN 'Delivery' THEN one_line(said['delivery']['smtpResponse'])
    END AS words
  FROM (SELECT *, unnest(CASE WHEN len(recipients) > 0 THEN recipients ELSE [NULL] END) AS rcpt FROM event)
)
SELECT * FROM no_event
UNION ALL BY NAME
SELECT
  at_us,
  'ses' AS host,
  '' AS instance,
  CASE WHEN id = '' THEN concat(address, '/', at_us) ELSE id END AS qid,
  CASE type WHEN 'Send' THEN accepted_kind(said['mail']['source']) WHEN 'Complaint' THEN 'complaint' ELSE 'attempt' END AS kind,
  line,
  bare_address(said['mail']['source']) AS sender,
  CASE WHEN type <> 'Send' THEN address END AS recipient,
  CASE type WHEN 'Delivery' THEN said['delivery']['remoteMtaIp'] WHEN 'Bounce' THEN said['bounce']['remoteMtaIp'] END
    AS relay_ip,
  CASE type
    WHEN 'Delivery' THEN 'sent'
    WHEN 'DeliveryDelay' THEN 'deferred'
    WHEN 'Bounce' THEN CASE
      WHEN said['bounce']['bounceType'] = 'Transient' AND (
        said['bounce']['bounceSubType'] = 'CustomTimeoutExceeded' OR told_code(words) BETWEEN 400 AND 499
        OR starts_with(dsn, '4.') OR dsn = '5.4.7'
      ) THEN 'expired'
      WHEN said['bounce']['remoteMtaIp'] <> '' OR contains(said['bounce']['reportingMTA'], 'amazonses.com')
        OR contains(lower(said['bounce']['bounceSubType']), 'suppress') THEN 'bounced'
      ELSE 'returned'
    END
    WHEN 'Reject' THEN 'bounced'
    WHEN 'Rendering Failure' THEN 'bounced'
  END AS status,
  told_code(words) AS code,
  coalesce(dsn, told_enhanced(words)) AS enhanced,
  CASE WHEN type NOT IN ('Send', 'Complaint') AND at_us >= begun_us THEN at_us - begun_us END AS delay,
  CASE WHEN type <> 'Delivery' THEN words END AS reply,
  message_id,
  CASE WHEN type = 'Send' THEN header_text('Event', type) END AS text
FROM worded
WHERE contains(address, '@')
UNION ALL BY NAME
SELECT at_us, 'ses' AS host, '' AS instance, id AS qid, 'header' AS kind, line, header_text(header['name'], header['value']) AS text
FROM (SELECT line, at_us, id, unnest(said['mail']['headers']) AS header FROM event WHERE id <> '' AND type <> 'Complaint')
WHERE starts_with(lower(header['name']), 'x-')
UNION ALL BY NAME
SELECT DISTINCT 0 AS at_us, '' AS host, '' AS instance, '' AS qid, 'rejected' AS kind, line, reply, left(text, 2000) AS text
FROM (
  SELECT line, unfit(text) AS reply, text FROM document WHERE told IS NULL
  UNION ALL
  SELECT line, 'no recipient' AS reply, text FROM worded WHERE coalesce(position('@' IN address), 0) = 0 AND type <> 'Complaint'
)
