-- Purpose: events of Postmark: its webhooks (`RecordType`), and pages of its bounce API (`Bounces`). What Postmark goes on
--   trying is a deferral; its other bounces may come after a delivery, but for mails that it did not send at all. A spam
--   complaint or an unsubscription becomes a `complaint`; auto-replies, opens and clicks say nothing here. Metadata is headers.
-- Format: postmark, Postmark's webhooks and bounces
-- Version: 2
-- Input: json
-- Detect: "RecordType"\s*:\s*"(?:Bounce|Delivery|Open|Click|SpamComplaint|SubscriptionChange)"
-- Detect: "Bounces"\s*:\s*\[.*"TypeCode"\s*:|"TypeCode"\s*:.*"MessageID"\s*:|"MessageID"\s*:.*"TypeCode"\s*:
-- Facts: postmarkapp.com/developer: webhooks, bounce types of the bounce API.
-- Parameters: ref_year, ref_month, ref_day (stand for the time of an event without one). Reads lines(line, text).
-- Columns: those of sql/collect/postfix.sql.
WITH document AS (
  SELECT
    line,
    text,
    TRY(json_transform(
      listed_in(text, 'Bounces'),
      '[{"RecordType": "VARCHAR", "Type": "VARCHAR", "MessageID": "VARCHAR", "Email": "VARCHAR", "Recipient": "VARCHAR",
        "From": "VARCHAR", "BouncedAt": "VARCHAR", "DeliveredAt": "VARCHAR", "ChangedAt": "VARCHAR", "Details": "VARCHAR",
        "Description": "VARCHAR", "SuppressSending": "VARCHAR", "SuppressionReason": "VARCHAR",
        "Subject": "VARCHAR",
        "Metadata": "MAP(VARCHAR, VARCHAR)"}]'
    )) AS told
  FROM lines
  WHERE filled(text)
),
typed AS (
  SELECT
    *,
    CASE
      WHEN said['RecordType'] IS NULL THEN CASE WHEN said['BouncedAt'] <> '' THEN coalesce(said['Type'], 'Unknown') END
      WHEN said['RecordType'] = 'Bounce' THEN coalesce(said['Type'], 'Unknown')
      WHEN said['RecordType'] = 'SubscriptionChange' THEN CASE
        WHEN said['SuppressSending'] <> 'true' THEN NULL
        WHEN said['SuppressionReason'] = 'HardBounce' THEN 'suppressed'
        ELSE 'Unsubscribe'
      END
      WHEN said['RecordType'] IN ('Delivery', 'SpamComplaint') THEN said['RecordType']
    END AS type
  FROM (SELECT line, text, unnest(told) AS said FROM document WHERE told IS NOT NULL)
),
event AS (
  SELECT
    line,
    text,
    said,
    type,
    sender,
    qid,
    tight(email) AS address,
    coalesce(moment_us(event_at), epoch_us(make_date(ref_year, ref_month, ref_day)::TIMESTAMPTZ)) AS at_us,
    CASE WHEN type IN ('Delivery', 'suppressed') THEN told ELSE own_word(concat('Type ', type), told) END AS words
  FROM (
    SELECT
      line,
      text,
      said,
      type,
      said['From'] AS sender,
      nullif(said['MessageID'], '') AS qid,
      coalesce(said['Email'], said['Recipient']) AS email,
      coalesce(said['BouncedAt'], said['DeliveredAt'], said['ChangedAt']) AS event_at,
      bare_reply(details) AS told
    FROM (
      SELECT
        *,
        CASE
          WHEN type = 'suppressed' THEN 'HardBounce: sending to this address is suppressed'
          ELSE coalesce(nullif(said['Details'], ''), said['Description'], '')
        END AS details
      FROM typed
    )
  )
  CROSS JOIN params
  WHERE type NOT IN ('Subscribe', 'AutoResponder', 'AddressChange', 'OpenRelayTest', 'ChallengeVerification')
),
keyed AS MATERIALIZED (
  -- only what is needed from here on
  SELECT
    line,
    type,
    at_us,
    address,
    coalesce(qid, concat(address, '/', at_us)) AS qid,
    qid AS message_id,
    bare_address(sender) AS sender,
    words,
    CASE WHEN type NOT IN ('SpamComplaint', 'Unsubscribe') THEN list_concat(
      map_entries(said['Metadata']), [{'key': 'Subject', 'value': said['Subject']}]
    ) END AS labels,
    CASE
      WHEN coalesce(position('@' IN address), 0) = 0 AND type NOT IN ('Unsubscribe', 'SpamComplaint') THEN left(text, 2000)
    END AS lost
  FROM event
)
SELECT * FROM no_event
UNION ALL BY NAME
SELECT
  at_us,
  'postmark' AS host,
  '' AS instance,
  qid,
  CASE WHEN type IN ('Unsubscribe', 'SpamComplaint') THEN 'complaint' ELSE 'attempt' END AS kind,
  line,
  sender,
  address AS recipient,
  CASE
    WHEN type = 'Delivery' THEN 'sent'
    WHEN type IN ('Transient', 'DnsError') THEN 'deferred'
    WHEN type IN ('BadEmailAddress', 'ManuallyDeactivated', 'Unconfirmed', 'SMTPApiError', 'InboundError',
      'TemplateRenderingFailed') THEN 'bounced'
    WHEN type NOT IN ('Unsubscribe', 'SpamComplaint') THEN 'returned'
  END AS status,
  told_code(words) AS code,
  told_enhanced(words) AS enhanced,
  CASE WHEN type NOT IN ('Delivery', 'Unsubscribe', 'SpamComplaint') THEN words END AS reply,
  message_id
FROM keyed
WHERE contains(address, '@')
UNION ALL BY NAME
SELECT at_us, 'postmark' AS host, '' AS instance, qid, 'header' AS kind, line, header_text(entry['key'], entry['value']) AS text
FROM (SELECT at_us, qid, line, unnest(labels) AS entry FROM keyed WHERE len(labels) > 0 AND contains(address, '@'))
WHERE entry['value'] <> ''
UNION ALL BY NAME
SELECT DISTINCT 0 AS at_us, '' AS host, '' AS instance, '' AS qid, 'rejected' AS kind, line, reply, text
FROM (
  SELECT line, unfit(text) AS reply, left(text, 2000) AS text FROM document WHERE told IS NULL
  UNION ALL
  SELECT line, 'no recipient' AS reply, lost AS text FROM keyed WHERE lost IS NOT NULL
)
