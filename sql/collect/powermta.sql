-- Purpose: records of PowerMTA's accounting files: delivered (d), bounced (b), transient (t), received (r), remote bounces
--   and status (rb, rs), complaints (f). Columns come from the heading, in any order; without one they are the usual ones.
--   A remote bounce came after the delivery. Records of a whole queue (tq) say nothing of a mail. jobId, envId and columns
--   header_* are headers.
-- Format: powermta, accounting files of PowerMTA
-- Version: 1
-- Input: csv
-- Detect: ^"?type"?,(?:"?[\w-]+"?,)*"?(?:timeLogged|timeQueued|rcpt|orig)"?(?:,|$)
-- Detect: ^"?(?:d|b|t|tq|r|rb|rs|f)"?,"?(?:\d{10}|\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d[^,]*)"?,
-- Facts: PowerMTA user's guide, accounting.
-- Parameters: host VARCHAR, heading VARCHAR (the first record). Reads lines(line, text).
-- Columns: those of sql/collect/postfix.sql. qid: the Message-ID where it is logged, else what tells a mail from another.
WITH heading AS (
  SELECT
    host,
    CASE
      WHEN csv_names(heading)[1] = 'type' THEN csv_names(heading)
      ELSE csv_names('type,timelogged,timequeued,orig,rcpt,orcpt,dsnaction,dsnstatus,dsndiag,dsnmta,bouncecat,srctype,srcmta,'
        || 'dlvtype,dlvsourceip,dlvdestinationip,dlvesmtpavailable,dlvsize,vmta,jobid,envid,queue,vmtapool')
    END AS names
  FROM params
),
place AS (
  SELECT
    host,
    names,
    list_position(names, 'timelogged') AS at_place,
    list_position(names, 'timequeued') AS begun_place,
    list_position(names, 'orig') AS orig_place,
    list_position(names, 'rcpt') AS rcpt_place,
    list_position(names, 'dsnaction') AS action_place,
    list_position(names, 'dsnstatus') AS status_place,
    list_position(names, 'dsndiag') AS diag_place,
    list_position(names, 'dsnmta') AS mta_place,
    list_position(names, 'bouncecat') AS category_place,
    list_position(names, 'dlvdestinationip') AS ip_place,
    list_position(names, 'dlvsize') AS size_place,
    list_position(names, 'jobid') AS job_place,
    list_position(names, 'envid') AS env_place,
    list_position(names, 'header_message-id') AS id_place,
    -- whatever else the sender wants to find a mail by
    list_filter(
      list_zip(names, generate_series(1, len(names))),
      lambda item: item[1] IN ('jobid', 'envid') OR (starts_with(item[1], 'header_') AND item[1] <> 'header_message-id')
    ) AS tags
  FROM heading
),
record AS (
  SELECT line, text, csv_fields(text) AS fields
  FROM lines
  WHERE NOT starts_with(text, '#') AND NOT starts_with(text, 'type,') AND NOT starts_with(text, '"type"') AND filled(text)
),
named AS (
  SELECT
    line,
    text,
    fields,
    host,
    tags,
    CASE lower(trim(fields[1]))
      WHEN 'd' THEN 'd' WHEN 'b' THEN 'b' WHEN 't' THEN 't' WHEN 'r' THEN 'r' WHEN 'f' THEN 'f' WHEN 'rb' THEN 'rb'
      WHEN 'rs' THEN 'rs' WHEN 'tq' THEN 'tq' WHEN 'delivery' THEN 'd' WHEN 'bounce' THEN 'b' WHEN 'transient' THEN 't'
      WHEN 'transient-queue' THEN 'tq' WHEN 'received' THEN 'r' WHEN 'feedback-loop' THEN 'f' WHEN 'remote-bounce' THEN 'rb'
      WHEN 'remote-status' THEN 'rs'
    END AS type,
    moment_us(trim(fields[at_place])) AS at_us,
    fields[begun_place] AS begun,
    bare_address(fields[orig_place]) AS sender,
    bare_address(fields[rcpt_place]) AS address,
    lower(fields[action_place]) AS action,
    fields[status_place] AS dsn,
    bare_reply(fields[diag_place]) AS words,
    fields[mta_place] AS mta,
    lower(fields[category_place]) AS category,
    field_text(fields[ip_place]) AS ip,
    fields[size_place] AS size,
    field_text(fields[job_place]) AS job,
    field_text(fields[env_place]) AS env,
    field_text(fields[id_place]) AS message_id
  FROM record
  CROSS JOIN place
),
keyed AS (
  SELECT
    *,
    coalesce(nullif(host, ''), 'powermta') AS own_host,
    CASE
      WHEN message_id <> '' THEN trim(message_id, '<>')
      WHEN job <> '' OR env <> '' THEN concat_ws('/', env, job, sender, address)
      ELSE concat_ws('/', begun, sender, address)
    END AS qid,
    CASE
      WHEN type IS NULL THEN 'unknown record type'
      WHEN coalesce(position('@' IN address), 0) = 0 THEN 'no recipient'
      WHEN at_us IS NULL THEN 'no time'
    END AS unfit
  FROM named
  WHERE type IS DISTINCT FROM 'tq'
)
SELECT * FROM no_event
UNION ALL BY NAME
SELECT
  at_us,
  own_host AS host,
  '' AS instance,
  qid,
  CASE type WHEN 'r' THEN 'begin' WHEN 'f' THEN 'complaint' ELSE 'attempt' END AS kind,
  line,
  sender,
  CASE WHEN type <> 'r' THEN address END AS recipient,
  CASE WHEN type IN ('d', 'b', 't') THEN lower(split_part(trim(mta), ' ', 1)) END AS relay,
  CASE
    WHEN type IN ('d', 'b', 't') THEN coalesce(nullif(regexp_extract(mta, '\(([0-9a-fA-F.:]+)\)', 1), ''), ip)
  END AS relay_ip,
  CASE
    WHEN type = 'd' THEN 'sent'
    WHEN type = 't' THEN 'deferred'
    WHEN type = 'b' THEN CASE WHEN category = 'message-expired' OR left(dsn, 5) IN ('4.4.7', '5.4.7') THEN 'expired' ELSE 'bounced' END
    WHEN type = 'rb' THEN 'returned'
    WHEN type = 'rs' THEN CASE WHEN action = 'failed' THEN 'returned' ELSE 'sent' END
  END AS status,
  CASE WHEN type <> 'r' THEN told_code(words) END AS code,
  CASE
    WHEN type IN ('r', 'f') THEN NULL
    ELSE coalesce(nullif(regexp_extract(dsn, '^[245]\.[0-9]{1,3}\.[0-9]{1,3}'), ''), told_enhanced(words))
  END AS enhanced,
  CASE WHEN type IN ('d', 'b', 't') AND at_us >= moment_us(begun) THEN at_us - moment_us(begun) END AS delay,
  CASE WHEN type IN ('b', 't', 'rb') OR type = 'rs' AND action = 'failed'
    THEN coalesce(nullif(words, ''), nullif(concat_ws(' ', nullif(trim(dsn), ''), nullif(category, '')), '')) END AS reply,
  bracketed(message_id) AS message_id,
  TRY_CAST(size AS BIGINT) AS size
FROM keyed
WHERE unfit IS NULL AND (type <> 'rs' OR action IN ('failed', 'delivered', 'relayed'))
UNION ALL BY NAME
SELECT
  at_us, own_host AS host, '' AS instance, qid, 'header' AS kind, line,
  header_text(CASE tag[1] WHEN 'jobid' THEN 'jobId' WHEN 'envid' THEN 'envId' ELSE substring(tag[1], 8) END, fields[tag[2]]) AS text
FROM (SELECT *, unnest(tags) AS tag FROM keyed WHERE unfit IS NULL AND type <> 'f')
WHERE fields[tag[2]] <> ''
UNION ALL BY NAME
SELECT 0 AS at_us, '' AS host, '' AS instance, '' AS qid, 'rejected' AS kind, line, unfit AS reply, left(text, 2000) AS text
FROM keyed
WHERE unfit IS NOT NULL
