-- Purpose: lines of Sendmail to events; stateless, so that blocks parse anywhere. A `from=` line gives `queued` with the
--   message-id; a `to=` line one `attempt` for each recipient that it names; a bounce a `hop` to its queue id, and one that
--   says that the time is up `expired`, for all recipients still deferred.
--   What a line says of another one is used where both stand in a block: an envelope split off another has its sender and
--   message-id; a deferral right after a timeout behind the final dot says so.
-- Format: sendmail, the log of Sendmail
-- Version: 1
-- Input: syslog
-- Detect: ^\S+(?:\[\d+\])?: (?:\[ID \d+ [\w.]+\] )?\w{8,20}: from=.*, size=\d+, class=
-- Detect: ^\S+(?:\[\d+\])?: (?:\[ID \d+ [\w.]+\] )?\w{8,20}: to=.*(?:, mailer=|, xdelay=).*stat=
-- Detect: ^(?:sm-mta|sm-msp-queue|sendmail)(?:\[\d+\])?: (?:\[ID \d+ [\w.]+\] )?(?:NOQUEUE|STARTTLS=|AUTH=|ruleset=|\w{14}: )
-- Facts: sendmail/deliver.c (logdelivery: to=, [more], delay=, relay=, dsn=, reply=, stat=), envelope.c and savemail.c (DSN,
--   return to sender, sender notify, "Cannot send message for"), queue.c (split, clone), usersmtp.c and collect.c (phases).
-- Parameters: host VARCHAR ('' keeps the logged one), those of setup/stamped. Reads stamped, setup/replies, setup/durations.
-- Columns: at_us, host, instance, qid, kind, line, sender, recipient, orig_to, relay, relay_ip, relay_port, status, code,
--   enhanced, delay, reply, message_id, next_qid, size, nrcpt, text. Times are microseconds UTC; what is absent is NULL
--   (host, instance, qid and kind are never), and so is the reply to a mail that was accepted. A delivery without a host has
--   its mailer as the relay.
WITH opened AS (
  -- from_: where the queue id begins.
  SELECT *, colon + 2 AS from_, position(': ' IN substring(text, colon + 2, 24)) AS gap FROM stamped
),
sorted AS MATERIALIZED (
  SELECT
    line, text, start, at_us, colon, gap, from_, from_ + gap + 1 AS body,
    CASE WHEN at_us IS NULL AND class BETWEEN 1 AND 7 THEN 9 ELSE class END AS class
  FROM (
    SELECT
      *,
      CASE
        WHEN start IS NULL THEN CASE WHEN trim(text) = '' THEN 0 ELSE 9 END
        WHEN gap BETWEEN 7 AND 21 AND starts_with(word, 'to=') THEN 1
        WHEN gap BETWEEN 7 AND 21 AND starts_with(word, 'from=') THEN 2
        WHEN gap BETWEEN 9 AND 21 AND starts_with(word, 'done; delay=') THEN 3
        WHEN gap BETWEEN 9 AND 21 AND position(': ' IN word) BETWEEN 9 AND 21 THEN 4
        WHEN gap BETWEEN 9 AND 21 AND starts_with(word, 'split: ') THEN 6
        WHEN gap BETWEEN 9 AND 21 AND starts_with(word, 'timeout waiting for in') AND contains(text, ' client DATA status') THEN 5
        WHEN contains(text, ' messages') AND regexp_matches(substring(text, start, colon - start), 'journal|syslog') THEN 8
        ELSE 0
      END AS class
    FROM (SELECT *, substring(text, from_ + gap + 1, 23) AS word FROM opened)
  )
  WHERE class > 0
),
-- u31FFPtp032300: 31FFPtp032301: DSN: User unknown     ...: sender notify: Cannot send message for 5 days
-- u31FFPtp032300: 31FFPtp032301: clone: owner=x        u31FFPtp032300: split: count=2, ids=A, B
other AS (
  SELECT
    line, text, start, at_us, colon, gap, from_, class,
    regexp_extract(substring(text, body), '^([0-9A-Za-z]{8,20}): (.*)$', ['qid', 'said']) AS named,
    CASE
      WHEN class = 6 THEN regexp_extract_all(regexp_extract(text, ', ids?=(.*)$', 1), '[0-9A-Za-z]{8,20}')
      WHEN regexp_matches(substring(text, body), '^[0-9A-Za-z]{8,20}: clone: ') THEN [left(substring(text, body), position(':' IN substring(text, body)) - 1)]
    END AS children
  FROM sorted
  WHERE class IN (4, 6)
),
split_off AS (
  SELECT line, at_us, substring(text, from_, gap - 1) AS parent, unnest(children) AS qid FROM other WHERE children IS NOT NULL
),
entering AS (
  SELECT line, text, start, at_us, colon, gap, from_, class, body, NULL AS own_qid FROM sorted WHERE class = 2
  UNION ALL
  SELECT
    split_off.line, sorted.text, sorted.start, split_off.at_us, sorted.colon, sorted.gap, sorted.from_, sorted.class,
    sorted.body, split_off.qid
  FROM sorted
  JOIN split_off ON split_off.parent = substring(sorted.text, sorted.from_, sorted.gap - 1)
  WHERE sorted.class = 2
),
-- from=<a@b>, size=5938, class=0, nrcpts=7, msgid=<1@c>, proto=ESMTP, daemon=MTA, relay=[192.0.2.1]
arrived AS (
  SELECT
    line, text, start, at_us, colon, gap, from_, class, own_qid,
    CASE WHEN size_ = 0 THEN CASE WHEN own_qid IS NULL THEN 'rejected' END WHEN contains(numbers, ', nrcpts=0,') THEN NULL ELSE 'queued' END AS kind,
    CASE
      WHEN size_ = 0 THEN NULL
      WHEN starts_with(from_said, '<') AND position('>' IN from_said) = length(from_said) THEN substring(from_said, 2, length(from_said) - 2)
      WHEN suffix(from_said, '>') THEN regexp_extract(from_said, '<([^<>]*|"(?:[^"\\]|\\.)*"(?:@[^<>]*)?)>$', 1)
      ELSE from_said
    END AS sender,
    TRY_CAST(left(numbers, position(',' IN numbers) - 1) AS BIGINT) AS size,
    TRY_CAST(left(counted, position(',' IN counted) - 1) AS INTEGER) AS nrcpt,
    CASE
      WHEN id_ = 0 THEN NULL
      WHEN starts_with(id_said, '<') AND contains(id_said, '>') THEN left(id_said, position('>' IN id_said))
      ELSE split_part(id_said, ', ', 1)
    END AS message_id,
    CASE WHEN size_ = 0 THEN 'cut short' END AS reply
  FROM (
    SELECT *, CASE WHEN contains(numbers, ', nrcpts=') THEN substring(numbers, position(', nrcpts=' IN numbers) + 9) END AS counted
    FROM (
      SELECT
        *,
        CASE WHEN size_ > 0 THEN substring(text, body + 5, size_ - body - 5) END AS from_said,
        CASE WHEN size_ > 0 THEN concat(substring(text, size_ + 7, 48), ',') END AS numbers,
        CASE WHEN id_ > 0 THEN substring(text, id_ + 8) END AS id_said
      FROM (SELECT *, place(', size=', text, body) AS size_, place(', msgid=', text, body) AS id_ FROM entering)
    )
  )
),
-- to=<a@b>,<c@d>, ctladdr=<e@f> (1/1), delay=00:00:01, xdelay=00:00:00, mailer=esmtp, pri=1, relay=mx.b. [192.0.2.1],
-- dsn=4.3.5, reply=451 4.3.5 no, stat=Deferred: 451 4.3.5 no
addressed AS (
  SELECT
    *,
    CASE WHEN owner_ > 0 AND (delay_ = 0 OR owner_ < delay_) THEN owner_ WHEN delay_ > 0 THEN delay_ ELSE least(mailer_, stat_) END
      AS to_end,
    CASE WHEN stat_ > 0 THEN tight(substring(text, stat_ + CASE WHEN substring(text, stat_ + 1, 1) = ' ' THEN 7 ELSE 6 END)) END AS stat,
    CASE WHEN relay_ > 0 THEN substring(text, relay_ + 8, CASE WHEN dsn_ > relay_ THEN dsn_ WHEN reply_ > relay_ THEN reply_ ELSE stat_ END
      - relay_ - 8) END AS via,
    CASE
      WHEN dsn_ = 0 THEN ''
      WHEN substring(text, dsn_ + 11, 1) = ',' AND substring(text, dsn_ + 7, 1) = '.' THEN substring(text, dsn_ + 6, 5)
      ELSE regexp_extract(substring(text, dsn_ + 6, 12), '^[245]\.[0-9]{1,3}\.[0-9]{1,3}')
    END AS dsn,
    CASE WHEN reply_ > 0 AND stat_ > reply_ + 8 THEN substring(text, reply_ + 8, stat_ - reply_ - 8) ELSE '' END AS replied
  FROM (
    SELECT
      *,
      place(', delay=', text, body) AS delay_,
      place(', ctladdr=', text, body) AS owner_,
      place(', mailer=', text, body) AS mailer_,
      place(', relay=', text, body) AS relay_,
      place(', dsn=', text, body) AS dsn_,
      place(', reply=', text, body) AS reply_,
      coalesce(nullif(place(', stat=', text, body), 0), place(',stat=', text, body)) AS stat_
    FROM sorted
    WHERE class = 1
  )
),
listed AS (
  SELECT
    *,
    CASE
      WHEN to_end < body + 4 THEN ['']
      WHEN NOT contains(to_said, ',') AND NOT contains(to_said, ' [more]') THEN [to_said]
      ELSE list_filter(
        list_transform(
          CASE WHEN contains(to_said, '"') THEN regexp_extract_all(to_said, '(?:"(?:[^"\\]|\\.)*"|[^",])+') ELSE string_split(to_said, ',') END,
          lambda item: trim(replace(item, ' [more]', ''))
        ),
        lambda item: item <> ''
      )
    END AS recipients
  FROM (SELECT *, substring(text, body + 3, to_end - body - 3) AS to_said FROM addressed)
),
spoken AS (
  -- The phase of a timeout is said on a line before.
  SELECT line, at_us, substring(text, from_, gap - 1) AS qid, substring(text, body) AS said
  FROM sorted
  WHERE class = 5
),
tried AS (
  SELECT
    line, text, start, at_us, colon, gap, from_, class,
    CASE
      WHEN stat_ = 0 OR to_end < body + 4 OR len(recipients) = 0 THEN 'rejected'
      WHEN lower(left(stat, 6)) = 'queued' THEN NULL
      ELSE 'attempt'
    END AS kind,
    unnest(CASE WHEN stat_ = 0 OR to_end < body + 4 OR len(recipients) = 0 THEN [''] ELSE recipients END) AS named,
    CASE
      WHEN via_open > 1 AND NOT starts_with(via, '[')
        THEN lower(left(via, via_open - CASE WHEN substring(via, via_open - 1, 1) = '.' THEN 2 ELSE 1 END))
      WHEN via_open > 0 THEN lower(rtrim(trim(left(via, via_open - 1), '[] '), '.'))
      WHEN via <> '' THEN lower(rtrim(trim(replace(via, ' (may be forged)', ''), '[] '), '.'))
      WHEN mailer_ > 0 THEN regexp_extract(substring(text, mailer_ + 9, 40), '^[^, ]+')
    END AS relay,
    CASE
      WHEN via_open > 0 AND substring(via, via_open + 2, 1) <> 'I' THEN substring(via, via_open + 2, length(via) - via_open - 2
        - CASE WHEN suffix(via, ']') THEN 0 ELSE length(via) - via_open - position(']' IN substring(via, via_open + 1)) END)
      WHEN via_open > 0 THEN lower(split_part(replace(substring(via, via_open + 2), 'IPv6:', ''), ']', 1))
    END AS relay_ip,
    CASE
      WHEN starts_with(stat, 'Sent') THEN 'sent'
      WHEN starts_with(stat, 'Deferred') THEN 'deferred'
      WHEN starts_with(dsn, '2') THEN 'sent'
      WHEN starts_with(dsn, '4') THEN 'deferred'
      WHEN dsn = '' AND regexp_matches(stat, '^(?:4[0-9][0-9] |Transient|Temporar|Greylist|Please try)') THEN 'deferred'
      ELSE 'bounced'
    END AS status,
    nullif(dsn, '') AS enhanced,
    CASE WHEN delay_ > 0 THEN clock_us(took) END AS delay,
    CASE WHEN stat_ = 0 THEN 'cut short: no status' WHEN to_end < body + 4 OR len(recipients) = 0 THEN 'not understood'
      WHEN starts_with(stat, 'Sent') OR (starts_with(dsn, '2') AND NOT starts_with(stat, 'Deferred')) THEN NULL
      WHEN replied <> '' AND NOT contains(stat, replied) THEN replied ELSE stat END AS reply,
    CASE WHEN starts_with(stat, 'Sent') THEN next_queue_id(stat) END AS next_qid
  FROM (
    SELECT *, position(' [' IN via) AS via_open, left(lasted, position(',' IN lasted) - 1) AS took
    FROM (SELECT *, concat(substring(text, delay_ + 8, 20), ',') AS lasted FROM listed)
  )
),
doubted AS (
  SELECT
    tried.line, tried.text, tried.start, tried.at_us, tried.colon, tried.gap, tried.from_, tried.class, tried.kind, tried.next_qid,
    CASE
      WHEN kind = 'rejected' THEN NULL
      -- `Taro <a@b>`, `<a@b>`, a@b
      WHEN starts_with(named, '<') AND position('>' IN named) = length(named) AND length(named) > 2 AND NOT contains(named, '"')
        THEN substring(named, 2, length(named) - 2)
      WHEN suffix(named, '>') AND contains(named, '<')
        THEN coalesce(nullif(regexp_extract(named, '<([^<>"]*|"(?:[^"\\]|\\.)*"(?:@[^<>]*)?)>$', 1), ''), named)
      ELSE named
    END AS recipient,
    CASE WHEN kind <> 'rejected' THEN relay END AS relay,
    CASE WHEN kind <> 'rejected' THEN relay_ip END AS relay_ip,
    CASE WHEN kind <> 'rejected' THEN status END AS status,
    CASE WHEN kind <> 'rejected' THEN enhanced END AS enhanced,
    CASE WHEN kind <> 'rejected' THEN delay END AS delay,
    CASE WHEN spoken.said IS NOT NULL THEN concat(tried.reply, ' (', spoken.said, ')') ELSE tried.reply END AS reply
  FROM tried
  LEFT JOIN spoken
    ON tried.status = 'deferred' AND spoken.qid = substring(tried.text, tried.from_, tried.gap - 1)
    AND tried.line > spoken.line AND tried.at_us BETWEEN spoken.at_us AND spoken.at_us + 5000000
    AND contains(lower(replace(spoken.said, ' from [', ' from ')), concat(' from ', tried.relay))
  WHERE kind IS NOT NULL
),
rare AS (
  SELECT
    line, text, start, at_us, colon, gap, from_, class,
    CASE class WHEN 3 THEN 'removed' WHEN 8 THEN 'loss' ELSE 'rejected' END AS kind,
    NULL AS next_qid,
    CASE WHEN class = 9 THEN CASE WHEN start IS NULL THEN 'no time stamp' ELSE 'no such time' END END AS reply,
    NULL AS status
  FROM sorted
  WHERE class IN (3, 9) OR (class = 8 AND (
    regexp_matches(text, 'lost [0-9]+ messages|[0-9]+ messages lost|begins? to drop messages')
    OR regexp_matches(text, '[Ss]uppressed [0-9]+ messages') AND (contains(text, 'sendmail') OR NOT contains(text, '.service'))
  ))
  UNION ALL
  SELECT line, text, start, at_us, colon, gap, from_, class, 'hop', named['qid'], NULL, NULL
  FROM other
  WHERE children IS NULL AND regexp_matches(named['said'], '^(?:DSN|return to sender|sender notify|postmaster notify|return receipt|relayed)')
  UNION ALL
  SELECT line, text, start, at_us, colon, gap, from_, class, 'expired', NULL, NULL, 'expired'
  FROM other
  WHERE children IS NULL AND regexp_matches(named['said'], ': Cannot send message (?:for|within) ')
),
united AS (
  SELECT * FROM arrived WHERE kind IS NOT NULL
  UNION ALL BY NAME
  SELECT * FROM doubted
  UNION ALL BY NAME
  SELECT * FROM rare
)
SELECT
  coalesce(at_us, 0) AS at_us,
  CASE
    WHEN params.host <> '' THEN params.host
    WHEN start IS NULL THEN ''
    WHEN colon < start THEN first_word(substring(text, start, colon - start))  -- no program
    ELSE substring(text, start, CASE WHEN space > 0 THEN space - 1 ELSE colon - start END)
  END AS host,
  '' AS instance,
  CASE WHEN class > 7 OR kind = 'rejected' THEN '' ELSE coalesce(own_qid, substring(text, from_, gap - 1)) END AS qid,
  kind,
  line,
  sender,
  recipient,
  NULL::VARCHAR AS orig_to,
  relay,
  relay_ip,
  NULL::INTEGER AS relay_port,
  status,
  CASE
    WHEN kind = 'attempt' AND status <> 'sent'
      THEN TRY_CAST(nullif(regexp_extract(reply, '(?:^|: )([245][0-9][0-9])(?:[ -]|$)', 1), '') AS INTEGER)
  END AS code,
  enhanced,
  delay,
  reply,
  message_id,
  next_qid,
  size,
  nrcpt,
  CASE WHEN kind IN ('rejected', 'loss') THEN left(text, 2000) WHEN kind = 'hop' THEN substring(text, from_ + gap + 1) END AS text
FROM (SELECT *, position(' ' IN substring(text, start, colon - start)) AS space FROM united)
CROSS JOIN params
