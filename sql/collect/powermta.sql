-- Purpose: records of PowerMTA's accounting files: delivered (d), bounced (b), transient (t), received (r), remote bounces
--   and status (rb, rs), complaints (f). Columns come from the heading, in any order; without one they are the usual ones,
--   with timeImprinted or not, with timeQueued or not. Without a column for the time of logging it is that of queueing.
--   A remote bounce came after the delivery. Records of a whole queue (tq) say nothing of a mail. A complaint may name its
--   recipient as header_To alone. jobId, envId and columns header_* are headers.
-- Format: powermta, accounting files of PowerMTA
-- Version: 2
-- Input: csv
-- Detect: ^#? ?"?type"?,(?:"?[\w-]+"?,)*"?(?:timeLogged|timeQueued|rcpt|orig)"?(?:,|$)
-- Detect: ^#? ?(?:"?[\w-]+"?,)*"?timeLogged"?,(?:"?[\w-]+"?,)*"?type"?(?:,|$)
-- Detect: ^"?(?:d|b|t|tq|r|rb|rs|f)"?,"?(?:\d{10}|\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d[^,]*)"?,
-- Facts: PowerMTA user's guide, accounting.
-- Parameters: host VARCHAR, heading VARCHAR (the first record). Reads lines(line, text).
-- Columns: those of sql/collect/postfix.sql. qid: the Message-ID where it is logged, else what tells a mail from another.
WITH heading AS (
  SELECT
    host,
    CASE
      WHEN list_contains(csv_names(ltrim(heading, '# ')), 'type') THEN csv_names(ltrim(heading, '# '))
      ELSE csv_names('type,timelogged,timequeued,orig,rcpt,orcpt,dsnaction,dsnstatus,dsndiag,dsnmta,bouncecat,srctype,srcmta,'
        || 'dlvtype,dlvsourceip,dlvdestinationip,dlvesmtpavailable,dlvsize,vmta,jobid,envid,queue,vmtapool')
    END AS names,
    list_contains(csv_names(ltrim(heading, '# ')), 'type') AS told
  FROM params
),
place AS (
  SELECT
    host,
    names,
    told,
    list_position(names, 'type') AS type_place,
    coalesce(list_position(names, 'timelogged'), list_position(names, 'timequeued')) AS at_place,
    list_position(names, 'timequeued') AS begun_place,
    list_position(names, 'orig') AS orig_place,
    list_position(names, 'rcpt') AS rcpt_place,
    list_position(names, 'header_to') AS to_place,
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
    list_transform(
      list_filter(
        list_zip(names, generate_series(1, len(names))),
        lambda item: item[1] IN ('jobid', 'envid') OR (starts_with(item[1], 'header_') AND item[1] <> 'header_message-id')
      ),
      lambda item: {
        'name': CASE item[1] WHEN 'jobid' THEN 'jobId' WHEN 'envid' THEN 'envId' ELSE substring(item[1], 8) END,
        'place': item[2]
      }
    ) AS tags
  FROM heading
),
named AS (
  SELECT
    line,
    text,
    coalesce(nullif(host, ''), 'powermta') AS host,
    CASE lower(fields[type_place])
      WHEN 'd' THEN 'd' WHEN 'b' THEN 'b' WHEN 't' THEN 't' WHEN 'r' THEN 'r' WHEN 'f' THEN 'f' WHEN 'rb' THEN 'rb'
      WHEN 'rs' THEN 'rs' WHEN 'tq' THEN 'tq' WHEN 'delivery' THEN 'd' WHEN 'bounce' THEN 'b' WHEN 'transient' THEN 't'
      WHEN 'transient-queue' THEN 'tq' WHEN 'received' THEN 'r' WHEN 'feedback-loop' THEN 'f' WHEN 'remote-bounce' THEN 'rb'
      WHEN 'remote-status' THEN 'rs'
    END AS type,
    moment_us(fields[at_place]) AS at_us,
    fields[begun_place] AS begun,
    CASE WHEN begun_place <> at_place THEN moment_us(fields[begun_place]) END AS begun_us,
    bare_address(fields[orig_place]) AS sender,
    bare_address(fields[rcpt_place]) AS address,
    fields[to_place] AS to_said,
    lower(fields[action_place]) AS action,
    fields[status_place] AS dsn,
    CASE WHEN starts_with(fields[diag_place], 'smtp;') THEN substring(fields[diag_place], 6) ELSE bare_reply(fields[diag_place]) END
      AS words,
    lower(fields[mta_place]) AS mta,
    lower(fields[category_place]) AS category,
    nullif(fields[ip_place], '') AS ip,
    TRY_CAST(fields[size_place] AS BIGINT) AS size,
    nullif(fields[job_place], '') AS job,
    nullif(fields[env_place], '') AS env,
    nullif(fields[id_place], '') AS message_id,
    fields,
    tags
  FROM (
    SELECT *, csv_fields(CASE
      WHEN told THEN text
      -- unnamed, the two addresses may stand one place before or after where they are taken to be
      WHEN regexp_matches(text, '^[^,]*,[^,]*,[^,]*@[^,]*,[^,]*@') THEN regexp_replace(text, '^([^,]*,[^,]*,)', '\1,')
      WHEN split_part(text, ',', 5) <> split_part(text, ',', 6)
        THEN regexp_replace(text, '^([^,]*,[^,]*,[^,]*),[^,@]*(,[^,]*@[^,]*,[^,;]*@[^,;]*,)', '\1\2')
      ELSE text
    END) AS fields
    FROM lines
    CROSS JOIN place
    WHERE filled(text) AND left(text, 1) <> '#'
  )
  WHERE lower(fields[type_place]) IS DISTINCT FROM 'type'
),
keyed AS MATERIALIZED (
  -- only what is needed from here on
  SELECT
    * EXCLUDE (text, fields, tags),
    CASE
      WHEN type IN ('d', 'r', 'f') AND NOT coalesce(at_us - begun_us > 60000000, false) THEN NULL
      WHEN len(tags) > 0 THEN list_filter(
        list_transform(tags, lambda tag: header_text(tag['name'], nullif(fields[tag['place']], ''))),
        lambda label: NOT suffix(label, ': ')
      )
    END AS labels,
    CASE
      WHEN message_id <> '' THEN trim(message_id, '<>')
      WHEN job <> '' OR env <> '' THEN concat_ws('/', env, job, sender, address)
      ELSE concat_ws('/', begun, sender, address)
    END AS qid,
    CASE WHEN type <> 'r' THEN told_code(words) END AS code,
    CASE WHEN unfit IS NOT NULL THEN left(text, 2000) END AS lost
  FROM (
    SELECT
      *,
      CASE
        WHEN type IS NULL THEN 'unknown record type'
        WHEN coalesce(position('@' IN address), 0) = 0 THEN 'no recipient'
        WHEN at_us IS NULL THEN 'no time'
      END AS unfit
    FROM (
      SELECT * REPLACE (CASE WHEN type = 'f' AND coalesce(address, '') = '' THEN bare_address(to_said) ELSE address END AS address)
      FROM named
    )
    WHERE type IS DISTINCT FROM 'tq'
  )
)
SELECT * FROM no_event
UNION ALL BY NAME
SELECT
  at_us,
  host,
  '' AS instance,
  qid,
  CASE type WHEN 'r' THEN 'begin' WHEN 'f' THEN 'complaint' ELSE 'attempt' END AS kind,
  line,
  sender,
  CASE WHEN type <> 'r' THEN address END AS recipient,
  CASE WHEN type IN ('d', 'b', 't') THEN first_word(mta) END AS relay,
  CASE
    WHEN type IN ('d', 'b', 't') THEN coalesce(ip, nullif(regexp_extract(mta, '\(([0-9a-f.:]+)\)', 1), ''))
  END AS relay_ip,
  CASE type
    WHEN 'd' THEN 'sent'
    WHEN 't' THEN 'deferred'
    WHEN 'b' THEN CASE WHEN category = 'message-expired' OR left(dsn, 5) IN ('4.4.7', '5.4.7') THEN 'expired' ELSE 'bounced' END
    WHEN 'rb' THEN 'returned'
    WHEN 'rs' THEN CASE WHEN action = 'failed' THEN 'returned' ELSE 'sent' END
  END AS status,
  code,
  CASE
    WHEN type IN ('r', 'f') THEN NULL
    ELSE coalesce(nullif(regexp_extract(dsn, '^[245]\.[0-9]{1,3}\.[0-9]{1,3}'), ''), told_enhanced(words))
  END AS enhanced,
  CASE WHEN type IN ('d', 'b', 't') AND at_us >= begun_us THEN at_us - begun_us END AS delay,
  CASE WHEN type IN ('b', 't', 'rb') OR type = 'rs' AND action = 'failed'
    THEN CASE
      WHEN code IS NOT NULL OR category = '' THEN coalesce(nullif(words, ''), nullif(tight(dsn), ''))
      ELSE concat_ws(' ', coalesce(nullif(words, ''), nullif(tight(dsn), '')), 'bounceCat: ' || category)
    END
  END AS reply,
  bracketed(message_id) AS message_id,
  size
FROM keyed
WHERE unfit IS NULL AND (type <> 'rs' OR action IN ('failed', 'delivered', 'relayed'))
UNION ALL BY NAME
SELECT at_us, host, '' AS instance, qid, 'header' AS kind, line, unnest(labels) AS text
FROM keyed
WHERE unfit IS NULL AND len(labels) > 0 AND type <> 'f'
UNION ALL BY NAME
SELECT 0 AS at_us, '' AS host, '' AS instance, '' AS qid, 'rejected' AS kind, line, unfit AS reply, lost AS text
FROM keyed
WHERE unfit IS NOT NULL
