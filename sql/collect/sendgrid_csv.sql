-- Purpose: SendGrid's exports as CSV: the Email Activity Feed (an event a record, columns from its heading in any order), and
--   the lists of bounces, blocks and invalid addresses. The same mails as in sql/collect/sendgrid.sql, under the same queue
--   ids. A drop was never sent; a bounce may come after a delivery; a spam report or an unsubscription becomes a
--   `complaint`; opens and clicks say nothing here. Unique arguments named like X-Release-Id are headers.
-- Format: sendgrid_csv, SendGrid's activity feed and lists as CSV
-- Version: 1
-- Input: csv
-- Detect: ^(?=.*\bprocessed\b)(?=.*\bmessage_id\b)(?=.*\bevent\b)(?=.*\bemail\b)"?[a-z_]+"?(?:,"?[a-z_]+"?)+\s*$
-- Detect: ^"?(?:status"?,"?)?reason"?,"?email"?,"?created"?\s*$
-- Facts: www.twilio.com/docs/sendgrid: Email Activity Feed, Suppressions as text/csv. Times are UTC.
-- Parameters: heading VARCHAR (the first record). Reads lines(line, text).
-- Columns: those of sql/collect/postfix.sql.
WITH heading AS (
  SELECT csv_names(heading) AS names FROM params
),
place AS (
  SELECT
    list_position(names, 'event') AS event_place,
    coalesce(list_position(names, 'processed'), list_position(names, 'created')) AS at_place,
    list_position(names, 'email') AS email_place,
    list_position(names, 'from') AS from_place,
    list_position(names, 'message_id') AS id_place,
    list_position(names, 'recv_message_id') AS taken_place,
    list_position(names, 'reason') AS reason_place,
    list_position(names, 'status') AS status_place,
    list_position(names, 'type') AS type_place,
    list_position(names, 'mx') AS mx_place,
    list_position(names, 'subject') AS subject_place,
    list_position(names, 'unique_args') AS args_place
  FROM heading
),
named AS (
  SELECT
    line,
    text,
    CASE WHEN event_place IS NULL THEN 'bounce' ELSE coalesce(lower(fields[event_place]), '') END AS event,
    coalesce(epoch_us(TRY_CAST(fields[at_place] AS TIMESTAMP)), number_us(TRY_CAST(fields[at_place] AS DOUBLE))) AS at_us,
    bare_address(fields[email_place]) AS address,
    bare_address(fields[from_place]) AS sender,
    split_part(split_part(coalesce(nullif(fields[id_place], ''), fields[taken_place], ''), '.filter', 1), '.recvd', 1) AS id,
    bare_reply(fields[reason_place]) AS told,
    lower(fields[type_place]) AS bounce,
    CASE WHEN regexp_matches(fields[status_place], '^[245]\.[0-9]{1,3}\.[0-9]{1,3}$') THEN fields[status_place] END AS dsn,
    lower(nullif(fields[mx_place], '')) AS mx,
    nullif(fields[subject_place], '') AS subject,
    nullif(fields[args_place], '') AS args
  FROM (SELECT line, text, csv_fields(text) AS fields FROM lines, params WHERE filled(text) AND text <> heading)
  CROSS JOIN place
  WHERE coalesce(fields[email_place] <> 'email', true)
),
event AS MATERIALIZED (
  SELECT
    *,
    coalesce(nullif(id, ''), concat(address, '/', at_us)) AS qid,
    CASE WHEN kind = 'attempt' AND status <> 'sent' THEN CASE WHEN event IN ('drop', 'dropped') THEN own_word('dropped', told) ELSE told END END
      AS words,
    CASE
      WHEN kind IS NULL THEN concat('unknown event: ', left(event, 40))
      WHEN coalesce(position('@' IN address), 0) = 0 THEN 'no recipient'
      WHEN at_us IS NULL THEN 'no time'
    END AS unfit
  FROM (
    SELECT
      *,
      CASE
        WHEN event IN ('delivered', 'deferred', 'bounce', 'bounced', 'block', 'blocked', 'drop', 'dropped') THEN 'attempt'
        WHEN event IN ('spam_report', 'spamreport', 'unsubscribe', 'group_unsubscribe') THEN 'complaint'
        WHEN event IN ('processed', 'processing') THEN accepted_kind(sender)
      END AS kind,
      CASE
        WHEN event = 'delivered' THEN 'sent'
        WHEN event = 'deferred' THEN 'deferred'
        WHEN event IN ('drop', 'dropped') THEN 'bounced'
        WHEN event IN ('bounce', 'bounced', 'block', 'blocked') THEN CASE bounce WHEN 'expired' THEN 'expired' ELSE 'returned' END
      END AS status
    FROM named
  )
  WHERE event NOT IN ('open', 'opened', 'click', 'clicked', 'group_resubscribe', 'resubscribe')
)
SELECT * FROM no_event
UNION ALL BY NAME
SELECT
  at_us,
  'sendgrid' AS host,
  '' AS instance,
  qid,
  kind,
  line,
  sender,
  CASE WHEN kind IN ('attempt', 'complaint') THEN address END AS recipient,
  CASE WHEN kind = 'attempt' THEN mx END AS relay,
  status,
  told_code(words) AS code,
  CASE WHEN words IS NOT NULL THEN coalesce(dsn, told_enhanced(words)) END AS enhanced,
  words AS reply,
  CASE WHEN kind NOT IN ('attempt', 'complaint') THEN header_text('Event', event) END AS text
FROM event
WHERE unfit IS NULL
UNION ALL BY NAME
SELECT at_us, 'sendgrid' AS host, '' AS instance, qid, 'header' AS kind, line, header_text('Subject', subject) AS text
FROM event
WHERE unfit IS NULL AND words IS NOT NULL AND subject IS NOT NULL
UNION ALL BY NAME
SELECT at_us, 'sendgrid' AS host, '' AS instance, qid, 'header' AS kind, line, header_text(entry['key'], entry['value']) AS text
FROM (
  SELECT at_us, qid, line, unnest(map_entries(TRY(json_transform(args, '"MAP(VARCHAR, VARCHAR)"')))) AS entry
  FROM event
  WHERE unfit IS NULL AND kind = 'attempt' AND args IS NOT NULL
)
WHERE starts_with(lower(entry['key']), 'x-') AND entry['value'] <> ''
UNION ALL BY NAME
SELECT 0 AS at_us, '' AS host, '' AS instance, '' AS qid, 'rejected' AS kind, line, unfit AS reply, left(text, 2000) AS text
FROM event
WHERE unfit IS NOT NULL
