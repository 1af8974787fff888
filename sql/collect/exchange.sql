-- Purpose: message traces of Exchange Online: summary and extended reports of the admin center, and what Get-MessageTrace
--   and Get-MessageTraceDetail give, as CSV with a heading. A report's recipient_status names each recipient with all that
--   happened (`a@b##Receive, Fail`): the last counts. Replies come from `LED=` in extended reports and details. Expansions,
--   rules and other steps on the way say nothing here. Times are UTC; whether the month or the day comes first in `1/2/2026`,
--   as PowerShell writes it by the machine's language, the whole block says. The subject of what was not delivered is a header.
-- Format: exchange, message traces of Exchange Online
-- Version: 2
-- Input: csv
-- Detect: (?i)^"?(?:origin[ _]?timestamp|date[ _]?time)[ _]?(?:\(?utc\)?)?"?,(?:.*,)? ?"?recipient[ _]?(?:status|address)"? ?(?:,|$)
-- Detect: (?i)^(?=.*\brecipient[ _]?address\b"? ?(?:,|$))(?=.*\b(?:status|event)"? ?(?:,|$))(?=.*\bmessage[ _]?(?:trace[ _]?)?id"? ?(?:,|$))
-- Detect: @[\w.-]+##(?:Receive|Submit|Send|Deliver|Fail|Expand)
-- Facts: learn.microsoft.com: message trace in the new EAC, Get-MessageTrace, Get-MessageTraceDetail.
-- Parameters: heading VARCHAR. Reads lines(line, text).
-- Columns: those of sql/collect/postfix.sql. host is `exchange-online`; qid the network message id, else the message-id.
WITH heading AS (
  SELECT heading, list_transform(csv_names(heading), lambda name: regexp_replace(name, '[^a-z0-9]', '', 'g')) AS names
  FROM params
),
place AS (
  SELECT
    heading,
    coalesce(
      list_position(names, 'datetimeutc'), list_position(names, 'datetime'), list_position(names, 'date'),
      list_position(names, 'dateutc'), list_position(names, 'origintimestamputc'), list_position(names, 'origintimestamp'),
      list_position(names, 'received'), list_position(names, 'receiveddatetime')
    ) AS at_place,
    coalesce(
      list_position(names, 'senderaddress'), list_position(names, 'sender'), list_position(names, 'returnpath')
    ) AS sender_place,
    coalesce(list_position(names, 'recipientaddress'), list_position(names, 'recipient')) AS recipient_place,
    list_position(names, 'recipientstatus') AS words_place,
    coalesce(list_position(names, 'eventid'), list_position(names, 'event')) AS event_place,
    coalesce(list_position(names, 'status'), list_position(names, 'deliverystatus')) AS status_place,
    list_position(names, 'detail') AS detail_place,
    list_position(names, 'toip') AS ip_place,
    coalesce(list_position(names, 'messagesubject'), list_position(names, 'subject')) AS subject_place,
    coalesce(list_position(names, 'totalbytes'), list_position(names, 'size')) AS size_place,
    list_position(names, 'messageid') AS id_place,
    coalesce(
      list_position(names, 'networkmessageid'), list_position(names, 'messagetraceid'), list_position(names, 'internalmessageid')
    ) AS trace_place
  FROM heading
),
record AS (
  SELECT
    line,
    text,
    csv_text(fields[at_place]) AS at_text,
    bare_address(csv_text(fields[sender_place])) AS sender,
    csv_text(fields[recipient_place]) AS recipients,
    field_text(fields[words_place]) AS words,
    field_text(fields[event_place]) AS event,
    field_text(fields[status_place]) AS status,
    field_text(fields[detail_place]) AS detail,
    field_text(fields[ip_place]) AS ip,
    field_text(fields[subject_place]) AS subject,
    TRY_CAST(fields[size_place] AS BIGINT) AS size,
    field_text(fields[id_place]) AS message_id,
    field_text(fields[trace_place]) AS trace
  FROM (
    SELECT line, text, csv_cut(text, pieces) AS fields
    FROM (SELECT line, text, string_split(text, '"') AS pieces FROM lines WHERE filled(text) AND left(text, 1) <> '#')
  )
  CROSS JOIN place
  WHERE text <> heading
),
stated AS (
  SELECT
    line,
    text,
    sender,
    subject,
    size,
    message_id,
    coalesce(trace, trim(message_id, '<>')) AS id,
    ip,
    coalesce(
      epoch_us(TRY_CAST(at_text AS TIMESTAMP)),
      epoch_us(try_strptime(at_text, [
        '%m/%d/%Y %I:%M:%S %p', '%m/%d/%Y %I:%M %p', '%m/%d/%Y %H:%M:%S', '%m/%d/%Y %H:%M', '%Y/%m/%d %H:%M:%S', '%Y/%m/%d %H:%M',
        '%d.%m.%Y %H:%M:%S', '%d.%m.%Y %H:%M'
      ]))
    ) AS at_us,
    CASE
      WHEN substring(at_text, 3, 1) = '/' OR substring(at_text, 2, 1) = '/'
        THEN epoch_us(try_strptime(at_text, ['%d/%m/%Y %H:%M:%S', '%d/%m/%Y %H:%M', '%d/%m/%Y %I:%M:%S %p', '%d/%m/%Y %I:%M %p']))
    END AS day_us,  -- where the day comes first
    coalesce(contains(words, '##'), false) AS marked,
    coalesce(event, status, '') AS step,
    coalesce(detail, words) AS detail,
    event IS NULL AS closed,
    unnest(CASE
      WHEN contains(words, '##') THEN CASE WHEN contains(words, ';') THEN string_split(words, ';') ELSE [words] END
      ELSE string_split(coalesce(recipients, ''), ';')
    END) AS item
  FROM record
),
told AS (
  -- `a@b##Receive, Send`; said, closed: of a single recipient or a step only.
  SELECT
    line, text, sender, subject, size, message_id, id, ip, at_us, day_us,
    bare_address(address) AS address,
    lower(trim(word)) AS word,
    said,
    closed
  FROM (
    SELECT
      *,
      CASE WHEN NOT marked OR mark = 0 THEN item ELSE left(item, mark - 1) END AS address,
      CASE WHEN NOT marked THEN step WHEN mark = 0 THEN '' ELSE regexp_extract(steps, '[^,]*$') END AS word,
      CASE WHEN NOT marked THEN detail END AS said,
      closing AND NOT marked AS closed
    FROM (
      SELECT *, CASE WHEN contains(substring(item, mark + 2), '##') THEN split_part(item, '##', 2) ELSE substring(item, mark + 2) END AS steps
      FROM (SELECT * RENAME (closed AS closing), position('##' IN item) AS mark FROM stated)
    )
  )
),
judged AS (
  SELECT
    *,
    CASE word
      WHEN 'deliver' THEN 'sent' WHEN 'delivered' THEN 'sent' WHEN 'send' THEN 'sent' WHEN 'sendexternal' THEN 'sent'
      WHEN 'send external' THEN 'sent' WHEN 'sent' THEN 'sent' WHEN 'filteredasspam' THEN 'sent'
      WHEN 'fail' THEN 'bounced' WHEN 'failed' THEN 'bounced' WHEN 'badmail' THEN 'bounced' WHEN 'quarantined' THEN 'bounced'
      WHEN 'quarantine' THEN 'bounced' WHEN 'drop' THEN 'bounced'
      WHEN 'defer' THEN 'deferred' WHEN 'deferred' THEN 'deferred' WHEN 'pending' THEN 'deferred'
      WHEN 'none' THEN '' WHEN 'gettingstatus' THEN '' WHEN 'expanded' THEN '' WHEN 'resolved' THEN ''
    END AS state,
    coalesce(nullif(trim(regexp_extract(said, 'LED=([^}]*)\}', 1)), ''), nullif(trim(said), '')) AS reply,
    nullif(regexp_extract(said, 'FQDN=([^}]*)\}', 1), '') AS relay,
    nullif(regexp_extract(said, '\bIP=([0-9a-fA-F.:]+)\}', 1), '') AS relay_ip
  FROM told
),
checked AS MATERIALIZED (
  SELECT
    *,
    CASE WHEN id IS NULL THEN concat_ws('/', sender, at_us) ELSE id END AS qid,
    CASE
      WHEN state IS NULL AND closed THEN 'unknown status'
      WHEN coalesce(state, '') <> '' AND coalesce(position('@' IN address), 0) = 0 THEN 'no recipient'
      WHEN coalesce(state, '') <> '' AND at_us IS NULL AND day_us IS NULL THEN 'no time'
    END AS unfit
  FROM judged
),
ordered AS (
  SELECT coalesce(bool_or(at_us IS NULL), false) AS day_first FROM checked WHERE day_us IS NOT NULL
)
SELECT * FROM no_event
UNION ALL BY NAME
SELECT
  CASE WHEN day_first THEN coalesce(day_us, at_us) ELSE at_us END AS at_us,
  'exchange-online' AS host,
  '' AS instance,
  qid,
  'attempt' AS kind,
  line,
  sender,
  address AS recipient,
  CASE WHEN state <> 'sent' OR relay_ip IS NOT NULL THEN lower(relay) END AS relay,
  coalesce(relay_ip, ip) AS relay_ip,
  state AS status,
  CASE WHEN state <> 'sent' THEN told_code(reply) END AS code,
  CASE WHEN state <> 'sent' THEN told_enhanced(reply) END AS enhanced,
  CASE WHEN state <> 'sent' THEN coalesce(one_line(reply), concat('status: ', word)) END AS reply,
  message_id,
  size
FROM checked
CROSS JOIN ordered
WHERE unfit IS NULL AND state <> ''
UNION ALL BY NAME
SELECT
  CASE WHEN bool_or(day_first) THEN coalesce(min(day_us), min(at_us)) ELSE min(at_us) END AS at_us, 'exchange-online' AS host,
  '' AS instance, qid, 'header' AS kind, line, header_text('Subject', min(subject)) AS text
FROM checked
CROSS JOIN ordered
WHERE unfit IS NULL AND state NOT IN ('', 'sent') AND subject IS NOT NULL
GROUP BY qid, line
UNION ALL BY NAME
SELECT 0 AS at_us, '' AS host, '' AS instance, '' AS qid, 'rejected' AS kind, line, min(unfit) AS reply, left(min(text), 2000) AS text
FROM checked
WHERE unfit IS NOT NULL
GROUP BY line
