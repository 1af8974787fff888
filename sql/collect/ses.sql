-- Purpose: events of Amazon SES: notifications (`notificationType`) and published events (`eventType`), bare, or as the
--   string `Message` of an SNS notification, inside the records of a Lambda call or an SQS dump, as `detail` of EventBridge,
--   or as Firehose writes them (objects one after the other, a line or not). A bounce that SES reports for another server
--   than its own came after a delivery. A complaint becomes a `complaint`, and so does a recipient who unsubscribed from all;
--   opens, clicks and other subscriptions say nothing here.
--   Headers are kept of mails that failed or took longer than a minute.
-- Format: ses, events and notifications of Amazon SES
-- Version: 3
-- Input: json
-- Detect: "(?:eventType|notificationType)\\?"\s*:\s*\\?"(?:Bounce|Complaint|Delivery|Send|Reject|Open|Click|Rendering Failure|DeliveryDelay|Subscription)\\?"
-- Detect: "TopicArn"\s*:\s*"arn:aws[\w-]*:sns:.*\\"mail\\"
-- Facts: docs.aws.amazon.com/ses/latest/dg: notification-contents, event-publishing-retrieving-sns-contents.
-- Parameters: ref_year, ref_month, ref_day (stand for the time of an event without one). Reads lines(line, text).
-- Columns: those of sql/collect/postfix.sql.
WITH seen AS (
  -- usual: a bare event and nothing behind it
  SELECT
    line,
    text,
    (
      starts_with(text, '{"eventType"') OR starts_with(text, '{"notificationType"')
      OR starts_with(text, '{ "eventType"') OR starts_with(text, '{ "notificationType"')
    ) AND NOT contains(text, '}{"') AS usual
  FROM lines
),
wrapped AS (
  -- What is none of the usual bare events, as the texts that may be some.
  SELECT
    line,
    text,
    CASE
      WHEN contains(text, 'Records"') OR contains(text, 'Messages"') THEN TRY(list_transform(
        json_transform(coalesce(json_extract(text, '$.Records'), json_extract(text, '$.Messages')), '["JSON"]'),
        lambda record: coalesce(record ->> '$.Sns', record ->> '$.body', record ->> '$.Body')
      ))
      WHEN contains(text, '}{"') THEN string_split(regexp_replace(text, '\}\{("[A-Za-z])', concat('}', chr(10), '{\1'), 'g'), chr(10))
    END AS inside
  FROM seen
  WHERE NOT usual AND filled(text)
),
enveloped AS (
  SELECT
    line,
    text,
    body,
    unnest(coalesce(
      CASE
        WHEN contains(body, 'Message"') OR contains(body, 'detail"') THEN TRY(json_transform(
          listed(body), '[{"Message": "VARCHAR", "detail": "VARCHAR", "Timestamp": "VARCHAR", "time": "VARCHAR"}]'
        ))
      END, [NULL]
    )) AS envelope
  FROM (SELECT line, text, unnest(coalesce(inside, [text])) AS body FROM wrapped)
),
bare AS (
  SELECT
    line,
    text,
    CASE
      -- SNS itself says in plain words that a topic was subscribed or tested
      WHEN left(ltrim(envelope['Message']), 1) IN ('{', '[') THEN envelope['Message']
      ELSE coalesce(envelope['detail'], body)
    END AS body,
    coalesce(envelope['Timestamp'], envelope['time']) AS told_at
  FROM enveloped
  UNION ALL
  SELECT line, text, text AS body, NULL AS told_at
  FROM seen
  WHERE usual
),
document AS (
  SELECT
    line,
    text,
    told_at,
    unnest(coalesce(TRY(json_transform(
      listed(body),
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
        "subscription": "VARCHAR",
        "reject": {"reason": "VARCHAR"}, "failure": {"errorMessage": "VARCHAR"}}]'
    )), [{'eventType': 'broken'}])) AS said
  FROM bare
),
typed AS (
  SELECT * REPLACE (CASE
    WHEN type <> 'Subscription' THEN type WHEN said['subscription'] ->> '$.newTopicPreferences.unsubscribeAll' = 'true' THEN 'Unsubscribed' END AS type)
  FROM (SELECT *, coalesce(said['eventType'], said['notificationType']) AS type, said['mail'] AS mail FROM document)
),
event AS (
  -- only what is needed from here on: the records are long
  SELECT
    line,
    CASE WHEN type = 'broken' THEN left(text, 2000) WHEN len(people) > 0 THEN NULL ELSE left(text, 2000) END AS lost,
    type,
    coalesce(id, '') AS id,
    begun_us,
    coalesce(
      moment_us(event_at), moment_us(told_at), begun_us, epoch_us(make_date(ref_year, ref_month, ref_day)::TIMESTAMPTZ)
    ) AS at_us,
    coalesce(named, id) AS message_id,
    bare_address(source) AS sender,
    people,
    headers,
    reason,
    bounce_type,
    bounce_sort,
    remote_ip,
    reporter
  FROM (
    SELECT
      line,
      text,
      told_at,
      type,
      mail['messageId'] AS id,
      mail['source'] AS source,
      moment_us(mail['timestamp']) AS begun_us,
      CASE WHEN type NOT IN ('Complaint', 'Unsubscribed', 'Send') AND mail['headers'] IS NOT NULL
        THEN list_filter(mail['headers'], lambda header: left(header['name'], 2) IN ('X-', 'x-') OR header['name'] = 'Subject') END AS headers,
      CASE
        -- some events have their own id there
        WHEN mail['commonHeaders']['messageId'] <> mail['messageId'] THEN mail['commonHeaders']['messageId']
        ELSE coalesce(
          list_filter(mail['headers'], lambda header: lower(header['name']) = 'message-id')[1]['value'],
          mail['commonHeaders']['messageId']
        )
      END AS named,
      CASE type
        WHEN 'Bounce' THEN said['bounce']['timestamp']
        WHEN 'Delivery' THEN said['delivery']['timestamp']
        WHEN 'DeliveryDelay' THEN said['deliveryDelay']['timestamp']
        WHEN 'Complaint' THEN said['complaint']['timestamp']
        WHEN 'Unsubscribed' THEN said['subscription'] ->> '$.timestamp'
        WHEN 'Send' THEN mail['timestamp']
      END AS event_at,
      CASE type
        WHEN 'Bounce' THEN said['bounce']['bouncedRecipients']
        WHEN 'DeliveryDelay' THEN said['deliveryDelay']['delayedRecipients']
        WHEN 'Complaint' THEN said['complaint']['complainedRecipients']
        ELSE list_transform(
          coalesce(CASE WHEN type = 'Delivery' THEN said['delivery']['recipients'] END, mail['destination']),
          lambda address: {'emailAddress': address, 'status': NULL::VARCHAR, 'diagnosticCode': NULL::VARCHAR}
        )
      END AS people,
      CASE type
        WHEN 'Delivery' THEN said['delivery']['smtpResponse']
        WHEN 'DeliveryDelay' THEN concat('DeliveryDelay: ', said['deliveryDelay']['delayType'])
        WHEN 'Bounce' THEN concat_ws(': ', said['bounce']['bounceType'], said['bounce']['bounceSubType'])
        WHEN 'Reject' THEN concat('rejected by SES: ', said['reject']['reason'])
        WHEN 'Rendering Failure' THEN concat('rendering failure: ', said['failure']['errorMessage'])
      END AS reason,
      said['bounce']['bounceType'] AS bounce_type,
      said['bounce']['bounceSubType'] AS bounce_sort,
      CASE type WHEN 'Delivery' THEN said['delivery']['remoteMtaIp'] WHEN 'Bounce' THEN said['bounce']['remoteMtaIp'] END
        AS remote_ip,
      said['bounce']['reportingMTA'] AS reporter
    FROM typed
    WHERE type IN ('Bounce', 'DeliveryDelay', 'Delivery', 'Send', 'Reject', 'Rendering Failure', 'Complaint', 'Unsubscribed', 'broken')
  )
  CROSS JOIN params
),
worded AS (
  SELECT
    *,
    bare_address(email) AS address,
    CASE WHEN told_dsn <> '' THEN nullif(regexp_extract(told_dsn, '^[245]\.[0-9]{1,3}\.[0-9]{1,3}$'), '') END AS dsn,
    CASE WHEN told_words <> '' THEN own_word(reason, told_words) ELSE one_line(reason) END AS words
  FROM (
    SELECT
      * EXCLUDE (rcpt, diagnosis),
      rcpt['emailAddress'] AS email,
      rcpt['status'] AS told_dsn,
      bare_reply(diagnosis) AS told_words
    FROM (
      SELECT *, rcpt['diagnosticCode'] AS diagnosis
      FROM (SELECT * EXCLUDE (people, headers, lost), unnest(people) AS rcpt FROM event WHERE type <> 'broken')
    )
  )
)
SELECT * FROM no_event
UNION ALL BY NAME
SELECT
  at_us,
  'ses' AS host,
  '' AS instance,
  CASE WHEN id = '' THEN concat(address, '/', at_us) ELSE id END AS qid,
  CASE type WHEN 'Send' THEN accepted_kind(sender) WHEN 'Complaint' THEN 'complaint' WHEN 'Unsubscribed' THEN 'complaint' ELSE 'attempt' END AS kind,
  line,
  sender,
  CASE WHEN type <> 'Send' THEN address END AS recipient,
  remote_ip AS relay_ip,
  CASE type
    WHEN 'Delivery' THEN 'sent'
    WHEN 'DeliveryDelay' THEN 'deferred'
    WHEN 'Bounce' THEN CASE
      WHEN bounce_type = 'Transient' AND (
        bounce_sort = 'CustomTimeoutExceeded' OR told_code(words) BETWEEN 400 AND 499
        OR starts_with(dsn, '4.') OR dsn = '5.4.7'
      ) THEN 'expired'
      WHEN remote_ip <> '' OR contains(reporter, 'amazonses.com') OR contains(lower(bounce_sort), 'suppress') THEN 'bounced'
      ELSE 'returned'
    END
    WHEN 'Reject' THEN 'bounced'
    WHEN 'Rendering Failure' THEN 'bounced'
  END AS status,
  coalesce(told_code(words), CASE WHEN length(told_words) = 3 THEN told_code(told_words) END) AS code,
  coalesce(dsn, told_enhanced(words)) AS enhanced,
  CASE WHEN type NOT IN ('Send', 'Complaint', 'Unsubscribed') AND at_us >= begun_us THEN at_us - begun_us END AS delay,
  CASE WHEN type <> 'Delivery' THEN words END AS reply,
  message_id,
  CASE WHEN type = 'Send' THEN 'header Event: Send' END AS text
FROM worded
WHERE contains(address, '@')
UNION ALL BY NAME
SELECT at_us, 'ses' AS host, '' AS instance, id AS qid, 'header' AS kind, line, header_text(header['name'], header['value']) AS text
FROM (
  SELECT line, at_us, id, unnest(headers) AS header
  FROM event
  WHERE len(headers) > 0 AND id <> '' AND (type <> 'Delivery' OR at_us - begun_us > 60000000)
)
UNION ALL BY NAME
SELECT DISTINCT 0 AS at_us, '' AS host, '' AS instance, '' AS qid, 'rejected' AS kind, line, reply, text
FROM (
  SELECT line, CASE type WHEN 'broken' THEN unfit(lost) ELSE 'no recipient' END AS reply, lost AS text
  FROM event
  WHERE lost IS NOT NULL AND type NOT IN ('Complaint', 'Unsubscribed')
  UNION ALL
  SELECT worded.line, 'no recipient' AS reply, left(lines.text, 2000) AS text
  FROM worded
  JOIN lines USING (line)
  WHERE coalesce(position('@' IN address), 0) = 0 AND type NOT IN ('Complaint', 'Unsubscribed')
)
