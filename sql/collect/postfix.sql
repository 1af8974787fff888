-- Purpose: lines of a Postfix log to events, one for each line that matters; stateless, so that blocks parse anywhere.
-- Cheap string functions are the fast path; a line that looks like a delivery and fails its shape is kept as `rejected`.
-- Facts: Postfix src/global/log_adhoc.c (to=, relay=, delays=, dsn=, status=), mail_queue.h (queue ids), qmgr, cleanup,
-- pickup and bounce log lines; rsyslog and journald messages about lost lines.
-- Parameters: ref_year, ref_month, ref_day BIGINT (of the file's last change, in its zone, for times without a year),
--   zone VARCHAR (name of the zone of times without an offset), host VARCHAR ('' keeps the logged one).
-- Reads: lines(line UINTEGER, text VARCHAR).
-- Columns: at_us, host, instance, qid, kind, line, sender, recipient, orig_to, relay, relay_ip, relay_port, status, code,
--   enhanced, delay, reply, message_id, next_qid, size, nrcpt, text, hash. Times are microseconds UTC.
WITH cut AS (
  SELECT
    line,
    text,
    CASE
      WHEN substring(text, 5, 1) = '-' AND substring(text, 8, 1) = '-' AND substring(text, 11, 1) = 'T'
        THEN position(' ' IN text) - 1
      WHEN substring(text, 4, 1) = ' ' AND substring(text, 10, 1) = ':' AND substring(text, 13, 1) = ':'
        AND substring(text, 16, 6) SIMILAR TO ' (19|20)[0-9][0-9] ' THEN 20
      WHEN substring(text, 4, 1) = ' ' AND substring(text, 10, 1) = ':' AND substring(text, 13, 1) = ':' THEN 15
      ELSE 0
    END AS stamp_length
  FROM lines
),
stamped AS (
  SELECT
    line,
    text,
    left(text, stamp_length) AS stamp,
    CASE WHEN stamp_length = 0 THEN text ELSE substring(text, stamp_length + 2) END AS rest
  FROM cut
),
dated AS (
  SELECT
    stamp,
    CASE
      WHEN substring(stamp, 11, 1) = 'T' THEN
        CASE
          WHEN stamp SIMILAR TO '.*(Z|z|[+-][0-9][0-9]:?[0-9][0-9])' THEN epoch_us(TRY_CAST(stamp AS TIMESTAMPTZ))
          ELSE epoch_us(timezone((SELECT zone FROM params), TRY_CAST(stamp AS TIMESTAMP)))
        END
      WHEN stamp <> '' THEN
        epoch_us(timezone(
          (SELECT zone FROM params),
          TRY_CAST(concat(
            CASE
              WHEN length(stamp) = 20 THEN TRY_CAST(substring(stamp, 17, 4) AS BIGINT)
              WHEN month * 100 + TRY_CAST(trim(substring(stamp, 5, 2)) AS BIGINT)
                > (SELECT ref_month * 100 + ref_day + 1 FROM params)
                THEN (SELECT ref_year FROM params) - 1
              ELSE (SELECT ref_year FROM params)
            END,
            '-', lpad(month::VARCHAR, 2, '0'), '-', lpad(trim(substring(stamp, 5, 2)), 2, '0'), ' ',
            substring(stamp, 8, 8)
          ) AS TIMESTAMP)
        ))
    END AS at_us
  FROM (
    SELECT DISTINCT
      stamp,
      (position(lower(left(stamp, 3)) IN 'janfebmaraprmayjunjulaugsepoctnovdec') + 2) // 3 AS month
    FROM stamped
  )
),
tagged AS (
  SELECT
    line,
    stamp,
    rest,
    split_part(rest, ' ', 1) AS logged_host,
    split_part(substring(rest, position(' ' IN rest) + 1), ': ', 1) AS tag,
    substring(rest, position(': ' IN rest) + 2) AS said
  FROM stamped
),
named AS (
  SELECT
    line,
    stamp,
    rest,
    logged_host,
    tag,
    split_part(tag, '[', 1) AS program,
    CASE
      WHEN starts_with(said, 'message repeated ') AND contains(said, ' times: [ ')
        THEN rtrim(substring(said, position(' times: [ ' IN said) + 10), ' ]')
      ELSE said
    END AS said
  FROM tagged
),
parted AS (
  SELECT
    line,
    stamp,
    rest,
    logged_host,
    tag,
    said,
    split_part(program, '/', 1) AS instance,
    regexp_extract(program, '[^/]*$') AS component,
    split_part(said, ': ', 1) AS qid,
    substring(said, position(': ' IN said) + 2) AS body
  FROM named
  WHERE contains(program, '/')
    OR contains(said, 'uppressed ')
    OR contains(said, 'lost ')
    OR contains(said, 'drop')
    OR stamp = ''
),
sorted AS (
  SELECT
    *,
    CASE
      WHEN stamp = '' THEN
        CASE WHEN trim(rest) = '' THEN '' ELSE 'rejected' END
      WHEN NOT contains(tag, '/') THEN
        CASE
          WHEN said SIMILAR TO '.*([Ss]uppressed [0-9]+ messages|lost [0-9]+ messages|[0-9]+ messages lost).*' THEN 'loss'
          WHEN contains(said, 'begin to drop messages') THEN 'loss'
          ELSE ''
        END
      WHEN NOT contains(said, ': ') OR contains(qid, ' ') OR length(qid) > 30 OR length(qid) < 5 THEN ''
      WHEN starts_with(body, 'to=') THEN
        CASE
          WHEN contains(body, ', status=') AND contains(body, ', relay=') THEN 'attempt'
          WHEN component IN ('smtp', 'lmtp', 'error', 'retry', 'local', 'virtual', 'pipe', 'relay', 'bounce', 'qmgr')
            THEN 'rejected'
          ELSE ''
        END
      WHEN body = 'removed' THEN 'removed'
      WHEN starts_with(body, 'from=<') THEN
        CASE
          WHEN contains(body, '(queue active)') AND contains(body, ', size=') THEN 'queued'
          WHEN contains(body, ', status=expired') OR contains(body, ', status=force-expired') THEN 'expired'
          ELSE ''
        END
      WHEN starts_with(body, 'message-id=') THEN 'message'
      WHEN starts_with(body, 'client=') THEN 'begin'
      WHEN starts_with(body, 'uid=') THEN CASE WHEN contains(body, ' orig_id=') THEN 'requeue' ELSE 'begin' END
      WHEN starts_with(body, 'info: header ') OR starts_with(body, 'warning: header ') THEN 'header'
      WHEN contains(body, 'notification: ') AND component = 'bounce' THEN 'hop'
      ELSE ''
    END AS kind
  FROM parted
),
kept AS (
  SELECT
    * EXCLUDE (kind),
    CASE
      WHEN kind NOT IN ('', 'loss', 'rejected') AND NOT regexp_full_match(qid, '[0-9A-Za-z]{5,30}') THEN ''
      ELSE kind
    END AS kind
  FROM sorted
  WHERE kind <> ''
),
attempts AS (
  SELECT
    *,
    CASE WHEN kind = 'attempt' THEN left(body, position(', status=' IN body) - 1) ELSE '' END AS front,
    CASE WHEN kind = 'attempt' THEN substring(body, position(', status=' IN body) + 9) ELSE '' END AS back
  FROM kept
  WHERE kind <> ''
),
split AS (
  SELECT
    *,
    CASE
      WHEN starts_with(front, 'to=<') THEN substring(front, 5, position('>, ' IN front) - 5)
      ELSE split_part(substring(front, 4), ', ', 1)
    END AS to_,
    split_part(substring(front, position(', relay=' IN front) + 8), ', ', 1) AS via,
    CASE WHEN kind = 'attempt' THEN lower(split_part(split_part(back, ' ', 1), '(', 1)) ELSE '' END AS word,
    CASE
      WHEN contains(back, '(') THEN
        CASE
          WHEN ends_with(rtrim(back), ')')
            THEN left(substring(rtrim(back), position('(' IN back) + 1), length(rtrim(back)) - position('(' IN back) - 1)
          ELSE substring(back, position('(' IN back) + 1)
        END
      ELSE ''
    END AS reason
  FROM attempts
),
read AS (
  SELECT
    *,
    kind = 'attempt' AND word = 'sent' AS sent
  FROM split
)
SELECT
  coalesce(dated.at_us, 0) AS at_us,
  CASE WHEN (SELECT host FROM params) <> '' THEN (SELECT host FROM params) ELSE logged_host END AS host,
  CASE WHEN contains(tag, '/') THEN instance ELSE '' END AS instance,
  CASE WHEN kind IN ('loss', 'rejected') THEN '' ELSE qid END AS qid,
  CASE
    WHEN dated.at_us IS NULL AND kind <> 'rejected' THEN 'rejected'
    WHEN kind = 'attempt' AND (to_ = '' AND NOT starts_with(front, 'to=<>') OR word = '') THEN 'rejected'
    ELSE kind
  END AS kind,
  line,
  CASE WHEN kind IN ('queued', 'expired') THEN substring(body, 7, position('>, ' IN body) - 7) ELSE '' END AS sender,
  to_ AS recipient,
  CASE
    WHEN kind = 'attempt' AND contains(front, ', orig_to=<')
      THEN split_part(substring(front, position(', orig_to=<' IN front) + 11), '>, ', 1)
    WHEN kind = 'attempt' AND contains(front, ', orig_to=')
      THEN split_part(substring(front, position(', orig_to=' IN front) + 10), ', ', 1)
    ELSE ''
  END AS orig_to,
  lower(split_part(via, '[', 1)) AS relay,
  CASE
    WHEN contains(via, '[') AND NOT contains(via, '/') THEN split_part(split_part(via, '[', 2), ']', 1) ELSE ''
  END AS relay_ip,
  TRY_CAST(split_part(via, ']:', 2) AS INTEGER) AS relay_port,
  CASE WHEN kind = 'expired' THEN 'expired' ELSE word END AS status,
  CASE
    WHEN kind <> 'attempt' OR reason = '' THEN 0
    WHEN sent THEN coalesce(TRY_CAST(left(reason, 3) AS INTEGER), 0)
    ELSE coalesce(TRY_CAST(regexp_extract(
      reason, '(?:^|said: |refused to talk to me: |: )([245][0-9][0-9])(?:[ -]|$)', 1) AS INTEGER), 0)
  END AS code,
  CASE
    WHEN contains(front, ', dsn=') THEN split_part(substring(front, position(', dsn=' IN front) + 6), ', ', 1) ELSE ''
  END AS enhanced,
  CASE
    WHEN kind = 'attempt' AND contains(front, ', delay=') THEN
      (TRY_CAST(split_part(substring(front, position(', delay=' IN front) + 8), ', ', 1) AS DOUBLE) * 1000000)::BIGINT
  END AS delay,
  CASE WHEN kind = 'rejected' THEN 'not understood' WHEN sent THEN '' ELSE reason END AS reply,
  CASE WHEN kind = 'message' THEN substring(body, 12) ELSE '' END AS message_id,
  CASE
    WHEN sent AND contains(reason, 'queued as ')
      THEN regexp_extract(reason, '.*queued as ([0-9A-Za-z]+)', 1)
    WHEN sent AND starts_with(reason, 'forwarded as ')
      THEN regexp_extract(reason, 'forwarded as ([0-9A-Za-z]+)', 1)
    WHEN sent AND contains(reason, 'queued_as: ')
      THEN regexp_extract(reason, 'queued_as: ([0-9A-Za-z]+)', 1)
    WHEN kind = 'hop' THEN regexp_extract(body, 'notification: ([0-9A-Za-z]+)', 1)
    WHEN kind = 'requeue' THEN regexp_extract(body, ' orig_id=([0-9A-Za-z]+)', 1)
    WHEN kind = 'begin' AND contains(body, ', orig_queue_id=') THEN regexp_extract(body, ', orig_queue_id=([0-9A-Za-z]+)', 1)
    ELSE ''
  END AS next_qid,
  CASE
    WHEN kind = 'queued' THEN TRY_CAST(split_part(substring(body, position(', size=' IN body) + 7), ',', 1) AS BIGINT)
  END AS size,
  CASE
    WHEN kind = 'queued'
      THEN TRY_CAST(split_part(substring(body, position(', nrcpt=' IN body) + 8), ' ', 1) AS INTEGER)
  END AS nrcpt,
  CASE
    WHEN kind IN ('header', 'hop') THEN body
    WHEN kind IN ('loss', 'rejected') THEN left(rest, 2000)
    ELSE ''
  END AS text,
  hash(rest) AS hash
FROM read
LEFT JOIN dated ON dated.stamp = read.stamp
