-- Purpose: rows of a sender's own delivery table, as JSON lines with our names, to events: what `[collect.tables.NAME]`
--   reads from a database, or a file with the same names. The words for a status are those that people use, or the codes and
--   replies of SMTP; one that is not known here is a rejected row. Columns named like a header (X-Release-Id) and `subject`
--   are headers.
-- Format: table, rows of a delivery table: at, recipient, status and more
-- Version: 2
-- Input: json
-- Detect: ^\{(?=.*"at"\s*:)(?=.*"recipient"\s*:)(?=.*"(?:status|code)"\s*:)(?!.*"(?:host|qid)"\s*:.*"kind"\s*:)
-- Parameters: ref_year, ref_month, ref_day are not used: a row without a time is rejected. host VARCHAR ('' the row's).
--   Reads lines(line, text).
-- Columns: those of sql/collect/postfix.sql. delay of a row is in seconds.
WITH document AS (
  SELECT
    line,
    text,
    TRY(json_transform(listed(text), '[{
      "at": "VARCHAR", "sender": "VARCHAR", "recipient": "VARCHAR", "message_id": "VARCHAR", "status": "VARCHAR",
      "code": "VARCHAR", "enhanced": "VARCHAR", "reply": "VARCHAR", "host": "VARCHAR", "queue_id": "VARCHAR",
      "relay": "VARCHAR", "relay_ip": "VARCHAR", "event_id": "VARCHAR", "delay": "DOUBLE", "subject": "VARCHAR"}]')) AS told
  FROM lines
  WHERE filled(text)
),
row_ AS (
  SELECT
    line,
    text,
    said,
    coalesce(nullif(params.host, ''), nullif(said['host'], ''), 'table') AS own_host,
    coalesce(
      moment_us(said['at']),
      -- as databases and their people write them: 2026/8/1 9:05, 20260801090500
      CASE WHEN substring(said['at'], 5, 1) = '/' THEN epoch_us(TRY_CAST(replace(said['at'], '/', '-') AS TIMESTAMPTZ)) END,
      CASE
        WHEN length(said['at']) = 14
          THEN epoch_us(TRY_CAST(regexp_replace(said['at'], '^((?:19|20)..)(..)(..)(..)(..)(..)$', '\1-\2-\3 \4:\5:\6') AS TIMESTAMPTZ))
      END
    ) AS at_us,
    bare_address(one_line(said['recipient'])) AS address,
    bare_reply(coalesce(nullif(said['reply'], ''), CASE WHEN spoken THEN said['status'] END)) AS words,
    coalesce(told, CASE WHEN spoken THEN TRY_CAST(left(trim(said['status']), 3) AS INTEGER) END) AS code,
    CASE
      WHEN spoken THEN left(trim(said['status']), 3)
      ELSE replace(replace(lower(trim(coalesce(nullif(said['status'], ''), told::VARCHAR, said['code'], ''))), ' ', '_'), '-', '_')
    END AS word
  FROM (
    -- spoken: the status is a receiver's code or reply
    SELECT
      *,
      TRY_CAST(TRY_CAST(said['code'] AS DOUBLE) AS INTEGER) AS told,
      left(said['status'], 1) <= '5' AND coalesce(regexp_matches(said['status'], '^\s*[245](?:[0-9]{2}|\.[0-9]{1,3}\.[0-9]{1,3})(?:[ -]|$)'), false) AS spoken
    FROM (SELECT line, text, unnest(told) AS said FROM document WHERE told IS NOT NULL)
  )
  CROSS JOIN params
),
judged AS (
  SELECT
    *,
    CASE
      WHEN word IN ('sent', 'delivered', 'delivery', 'delivered_late', 'ok', 'success', 'successful', 'succeeded', 'relayed', 'complete',
        'completed', 'd', '配信済み', '配信済', '配信成功', '配信完了', '送信済み', '送信済', '送信成功', '送信完了', '成功', '正常') THEN 'sent'
      WHEN word IN ('deferred', 'deferral', 'defer', 'soft_bounce', 'softbounce', 'soft_bounced', 'soft', 'soft_fail', 'softfail',
        'tempfail', 'temp_fail', 'temporary_failure', 'temp_failure', 'temporary', 'transient', 'transient_failure', 'delayed',
        'delay', 'retry', 'retrying', 'pending', 'throttled', 'greylisted', 't', '遅延', '保留', '再送待ち', '一時エラー', 'ソフトバウンス')
        THEN 'deferred'
      WHEN word IN ('bounced', 'bounce', 'hard_bounce', 'hardbounce', 'hard_bounced', 'hard', 'failed', 'fail', 'failure', 'permfail',
        'perm_fail', 'permanent_failure', 'permanent', 'rejected', 'reject', 'refused', 'undelivered', 'undeliverable', 'not_delivered',
        'error', 'blocked', 'block', 'dropped', 'drop', 'suppressed', 'invalid', 'b', '不達', 'エラー', '失敗', '配信失敗', '送信失敗',
        '拒否', 'バウンス', 'ハードバウンス', '恒久エラー') THEN 'bounced'
      WHEN word IN ('expired', 'expire', 'expiration', 'timeout', 'timed_out', 'time_out', 'gave_up', 'given_up', '期限切れ', 'タイムアウト')
        THEN 'expired'
      WHEN word IN ('returned', 'returned_to_sender', 'oob', 'out_of_band', 'async_bounce', 'remote_bounce', 'rb', 'dsn', '返送')
        THEN 'returned'
      WHEN word IN ('queued', 'accepted', 'processed', 'injected', 'injection', 'submitted', 'reception', 'received', 'send', 'r', '受付')
        THEN 'queued'
      WHEN word IN ('complaint', 'complained', 'spam', 'spam_complaint', 'spamcomplaint', 'spam_report', 'spamreport', 'fbl',
        'unsubscribed', 'unsubscribe', '配信停止', '迷惑メール報告') THEN 'complaint'
      WHEN word IN ('open', 'opened', 'click', 'clicked', '開封', 'クリック') THEN ''
      WHEN regexp_matches(word, '^[245][0-9.][0-9]$') THEN CASE left(word, 1) WHEN '2' THEN 'sent' WHEN '4' THEN 'deferred' ELSE 'bounced' END
    END AS state,
    coalesce(
      nullif(tight(said['queue_id']), ''), nullif(trim(said['message_id'], '<> '), ''), nullif(said['event_id'], ''),
      concat(address, '/', at_us)
    ) AS qid
  FROM row_
  WHERE coalesce(said['at'], said['recipient'], said['status'], said['code']) IS NOT NULL
),
checked AS MATERIALIZED (
  SELECT
    *,
    CASE
      WHEN state IS NULL THEN CASE WHEN word = '' THEN 'no status' ELSE concat('unknown status: ', left(coalesce(said['status'], word), 40)) END
      WHEN state NOT IN ('', 'queued') AND coalesce(position('@' IN address), 0) = 0 THEN 'no recipient'
      WHEN state <> '' AND at_us IS NULL THEN CASE WHEN said['at'] IS NULL THEN 'no time' ELSE 'no such time' END
    END AS unfit
  FROM judged
)
SELECT * FROM no_event
UNION ALL BY NAME
SELECT
  at_us,
  own_host AS host,
  '' AS instance,
  qid,
  CASE state WHEN 'queued' THEN accepted_kind(said['sender']) WHEN 'complaint' THEN state ELSE 'attempt' END AS kind,
  line,
  bare_address(said['sender']) AS sender,
  CASE WHEN state <> 'queued' THEN address END AS recipient,
  lower(nullif(tight(said['relay']), '')) AS relay,
  nullif(tight(said['relay_ip']), '') AS relay_ip,
  CASE WHEN state NOT IN ('queued', 'complaint') THEN state END AS status,
  CASE WHEN state NOT IN ('queued', 'complaint') THEN coalesce(CASE WHEN code BETWEEN 200 AND 599 THEN code END, told_code(words)) END
    AS code,
  CASE
    WHEN state NOT IN ('queued', 'complaint')
      THEN coalesce(nullif(regexp_extract(said['enhanced'], '^[245]\.[0-9]{1,3}\.[0-9]{1,3}'), ''), told_enhanced(words))
  END AS enhanced,
  CASE WHEN state NOT IN ('queued', 'complaint') AND said['delay'] BETWEEN 0 AND 1e9 THEN TRY_CAST(said['delay'] * 1000000 AS BIGINT) END AS delay,
  CASE WHEN state NOT IN ('queued', 'complaint', 'sent') THEN words END AS reply,
  nullif(tight(said['message_id']), '') AS message_id,
  CASE WHEN state = 'queued' THEN header_text('Event', word) END AS text
FROM checked
WHERE unfit IS NULL AND state <> ''
UNION ALL BY NAME
SELECT at_us, own_host AS host, '' AS instance, qid, 'header' AS kind, line, header_text('Subject', said['subject']) AS text
FROM checked
WHERE unfit IS NULL AND state <> '' AND said['subject'] <> ''
UNION ALL BY NAME
SELECT at_us, own_host AS host, '' AS instance, qid, 'header' AS kind, line, header_text(entry['key'], entry['value']) AS text
FROM (
  SELECT at_us, own_host, qid, line, unnest(map_entries(TRY(json_transform(text, '"MAP(VARCHAR, VARCHAR)"')))) AS entry
  FROM checked
  WHERE unfit IS NULL AND state <> '' AND (contains(text, 'X-') OR contains(text, 'x-'))
)
WHERE starts_with(lower(entry['key']), 'x-') AND entry['value'] <> ''
UNION ALL BY NAME
SELECT DISTINCT 0 AS at_us, '' AS host, '' AS instance, '' AS qid, 'rejected' AS kind, line, reply, left(text, 2000) AS text
FROM (
  SELECT line, unfit(text) AS reply, text FROM document WHERE told IS NULL
  UNION ALL
  SELECT line, unfit AS reply, text FROM checked WHERE unfit IS NOT NULL
)
