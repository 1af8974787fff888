-- Purpose: lines of OpenSMTPD to events, in the words of its releases from 5.3 on; stateless, so that blocks parse anywhere.
--   A mail is known by the first eight digits of its envelopes' ids: they are its queue id. The log has no message-ids.
-- Format: opensmtpd, the log of OpenSMTPD
-- Version: 2
-- Input: syslog
-- Detect: ^\S*smtpd?\S*(?:\[\d+\])?: [0-9a-f]{16} (?:smtp|mta|mda) [a-z]
-- Detect: ^\S*smtpd?\S*(?:\[\d+\])?: (?:smtp-in|smtp-out): [A-Z]
-- Detect: ^\S+?(?:\[\d+\])?: (?:relay|delivery): (?:Ok|TempFail|PermFail|Loop|Expire|Remove) for [0-9a-f]{16}:
-- Facts: OpenSMTPD smtpd/mta.c and mda.c (mta_log, mda_log), queue.c (queue_log: Expire, Remove), smtp_session.c (message,
--   envelope), to.c (duration_to_text), in the releases 5.3, 5.7, 6.0, 6.4 and 7.x.
-- Parameters: host VARCHAR ('' keeps the logged one), those of setup/stamped. Reads stamped, setup/replies, setup/durations.
-- Columns: at_us, host, instance, qid, kind, line, sender, recipient, orig_to, relay, relay_ip, relay_port, status, code,
--   enhanced, delay, reply, message_id, next_qid, size, nrcpt, text. Times are microseconds UTC; what is absent is NULL
--   (host, instance, qid and kind are never), and so is the reply to a mail that was accepted. A delivery by OpenSMTPD
--   itself has `local` as the relay.
WITH sorted AS MATERIALIZED (
  -- verb: what follows the session's id, `smtp message msgid=...`, or the whole in the older words, `relay: Ok for ...`.
  SELECT
    line, text, start, at_us, colon, body,
    CASE WHEN at_us IS NULL AND class BETWEEN 1 AND 7 THEN 9 ELSE class END AS class
  FROM (
    SELECT
      *,
      CASE
        WHEN start IS NULL THEN CASE WHEN trim(text) = '' THEN 0 ELSE 9 END
        WHEN starts_with(verb, 'mta delivery ') OR starts_with(verb, 'mta event=delivery ') THEN 1
        WHEN starts_with(verb, 'smtp envelope ') THEN 3
        WHEN starts_with(verb, 'smtp message ') THEN 4
        WHEN starts_with(verb, 'mda delivery ') OR starts_with(verb, 'mda event=delivery ') THEN 1
        WHEN starts_with(verb, 'smtp event=message ') THEN 5
        WHEN starts_with(verb, 'smtp-in: Accepted me') THEN 6
        WHEN starts_with(verb, 'relay: ') OR starts_with(verb, 'delivery: ') THEN CASE WHEN contains(verb, ' for ') THEN 2 ELSE 0 END
        WHEN contains(text, ' messages') AND regexp_matches(substring(text, start, colon - start), 'journal|syslog') THEN 8
        ELSE 0
      END AS class
    FROM (
      SELECT *, substring(text, body, 20) AS verb
      FROM (SELECT *, CASE WHEN substring(text, colon + 18, 1) = ' ' AND substring(text, colon + 19, 1) IN ('m', 's') THEN colon + 19
        ELSE colon + 2 END AS body FROM stamped)
    )
  )
  WHERE class > 0
),
-- mta delivery evpid=f6e94209918f7e7b from=<a@b> to=<c@d> rcpt=<-> source="192.0.2.9" relay="192.0.2.1 (mx.d)" delay=2s
-- result="Ok" stat="250 2.0.0 ok"           relay: Ok for f6e94209918f7e7b: from=<a@b>, to=<c@d>, relay=mx.d [192.0.2.1], delay=2s, stat=250
-- The usual line: marks that begin with a rare character are found fast.
marked AS (
  SELECT
    line, text, start, at_us, colon, body, class,
    position('> to=<' IN text) AS to_,
    position('> rcpt=<-> source="' IN text) AS source_,
    position('" relay="' IN text) AS relay_,
    position(')" delay=' IN text) AS delay_,
    position('" stat="' IN text) AS stat_
  FROM sorted
  WHERE class = 1
),
sliced AS (
  SELECT
    *,
    substring(text, body + 19, 16) AS evpid,
    substring(text, body + 42, to_ - body - 42) AS sender,
    substring(text, to_ + 6, source_ - to_ - 6) AS recipient,
    substring(text, source_ + 19, relay_ - source_ - 19) AS source,
    substring(text, relay_ + 9, delay_ - relay_ - 9) AS via,
    substring(text, delay_ + 9, stat_ - delay_ - 9) AS took,
    substring(text, stat_ + 8, length(text) - stat_ - 8) AS stat
  FROM marked
),
tested AS MATERIALIZED (
  -- plain: nothing stands twice or in another order, and no part has what could be taken for another one.
  SELECT
    line, text, start, at_us, colon, body, class, evpid, sender, recipient, stat,
    left(via, behind - 1) AS ip,
    substring(via, behind + 2) AS peer,
    left(took, told - 1) AS took,
    CASE substring(took, told) WHEN ' result="Ok' THEN 'sent' WHEN ' result="TempFail' THEN 'deferred' WHEN ' result="PermFail' THEN 'bounced' END
      AS status,
    to_ >= body + 42 AND source_ > to_ + 6 AND relay_ > source_ AND delay_ > relay_ AND stat_ > delay_
      AND substring(text, body, 19) = 'mta delivery evpid=' AND substring(text, body + 35, 7) = ' from=<'
      AND NOT contains(evpid, ' ') AND NOT contains(sender, ' ') AND NOT contains(sender, '>')
      AND NOT contains(recipient, ' ') AND NOT contains(recipient, '>') AND NOT starts_with(recipient, '"')
      AND NOT contains(source, ' ')
      AND behind > 1 AND NOT contains(left(via, behind - 1), '"') AND ascii(via) BETWEEN 48 AND 57
      AND NOT contains(substring(via, behind + 2), ' ') AND NOT contains(via, '<') AND peer <> ''
      AND told > 1 AND status IS NOT NULL AND sender NOT IN ('', '@') AND suffix(text, '"') AS plain
  FROM (SELECT *, position(' (' IN via) AS behind, position(' ' IN took) AS told FROM sliced)
),
usual AS (
  SELECT
    line, text, start, at_us, colon, class, evpid,
    'attempt' AS kind,
    sender,
    recipient,
    lower(peer) AS relay,
    lower(ip) AS relay_ip,
    status,
    reply_code(stat) AS code,
    CASE WHEN status <> 'sent' THEN reply_status(stat) END AS enhanced,
    units_us(took) AS delay,
    CASE WHEN status <> 'sent' THEN nullif(stat, '') END AS reply,
    CASE WHEN status = 'sent' THEN next_queue_id(stat) END AS next_qid
  FROM tested
  WHERE plain
),
delivered AS (
  -- A bounce of our own says so on its delivery line, too.
  SELECT *, unnest(CASE WHEN contains(text, ' from=<>') OR contains(text, ' from=<@') OR suffix(text, ' from=<') THEN [false, true] ELSE [false] END) AS twin
  FROM (
    SELECT line, text, start, at_us, colon, body, class FROM tested WHERE NOT plain
    UNION ALL
    SELECT line, text, start, at_us, colon, body, class FROM sorted WHERE class = 2
  )
),
keyed AS (
  SELECT
    *,
    position(' from=<' IN tail) AS from_,
    position(' to=<' IN tail) AS to_,
    position('> rcpt=<' IN tail) AS plain_rcpt_,
    position(' relay=' IN tail) AS relay_,
    position(' delay=' IN tail) AS delay_,
    CASE WHEN class = 1 THEN position(' result=' IN tail) ELSE 0 END AS result_,
    position(' stat=' IN tail) AS stat_,
    CASE WHEN class = 1 THEN substring(tail, position('evpid=' IN tail) + 6, 16) ELSE regexp_extract(tail, ' for ([0-9a-f]{16})', 1) END AS evpid
  FROM (
    SELECT
      *,
      CASE
        -- 5.3 had no brackets around addresses
        WHEN class = 2 AND NOT contains(text, ' to=<') THEN regexp_replace(substring(text, body), ' (from|to|rcpt)=([^,<>]*),', ' \1=<\2>,', 'g')
        ELSE substring(text, body)
      END AS tail
    FROM delivered
  )
),
cut AS (
  SELECT
    *,
    split_part(substring(tail, from_ + 7), '>', 1) AS from_said,
    CASE
      WHEN to_ > 0 AND substring(tail, to_ + 5, 1) <> '"' THEN substring(tail, to_ + 5, position('>' IN substring(tail, to_ + 5)) - 1)
      WHEN to_ > 0 THEN regexp_extract(substring(tail, to_ + 4), '^<("(?:[^"\\]|\\.)*"(?:@[^>]*)?|[^>]*)>', 1) END AS to_said,
    CASE WHEN position(' rcpt=<-> ' IN tail) > 0 THEN '' WHEN contains(tail, ' rcpt=<') THEN regexp_extract(tail, ' rcpt=<("(?:[^"\\]|\\.)*"(?:@[^>]*)?|[^>]*)>', 1) ELSE '' END AS rcpt_said,
    CASE WHEN relay_ > 0 AND relay_ < stat_ THEN substring(tail, relay_ + 7, delay_ - relay_ - 7) END AS via,
    CASE WHEN delay_ > 0 THEN split_part(split_part(substring(tail, delay_ + 7, 24), ' ', 1), ',', 1) END AS took,
    CASE WHEN class = 2 THEN split_part(tail, ' ', 2) WHEN result_ > 0 THEN trim(split_part(substring(tail, result_ + 8, 12), ' ', 1), '"') END
      AS result,
    CASE
      WHEN stat_ = 0 THEN NULL
      WHEN substring(tail, stat_ + 6, 1) = '"' AND suffix(tail, '"') THEN substring(tail, stat_ + 7, length(tail) - stat_ - 7)
      WHEN substring(tail, stat_ + 6, 1) = '"' THEN regexp_replace(substring(tail, stat_ + 7), '" *$', '')
      ELSE trim(substring(tail, stat_ + 6))
    END AS stat
  FROM keyed
),
tried AS (
  SELECT
    line, text, start, at_us, colon, class, evpid,
    CASE
      WHEN stat_ = 0 OR coalesce(to_said, '') = '' OR contains(evpid, ' ') OR length(evpid) <> 16 OR outcome IS NULL THEN 'rejected'
      ELSE 'attempt'
    END AS kind,
    CASE WHEN from_said IN ('', '@') THEN NULL ELSE from_said END AS sender,
    from_ > 0 AND from_said IN ('', '@') AS bounce,
    twin,
    to_said AS recipient,
    CASE WHEN rcpt_said NOT IN ('', '-', to_said) THEN rcpt_said END AS orig_to,
    -- 192.0.2.1 (mx.d)   mx.d [192.0.2.1]   192.0.2.1   mx.d
    CASE
      WHEN via IS NULL THEN CASE WHEN starts_with(tail, 'relay: ') THEN NULL ELSE 'local' END
      WHEN peer['behind'] <> '' THEN lower(peer['behind'])
      WHEN peer['ip'] <> '' THEN lower(peer['ip'])
      WHEN suffix(lower(to_said), concat('@', lower(trim(via, '", ')))) THEN NULL  -- no host was reached: the domain
      ELSE nullif(lower(trim(via, '", ')), '-')
    END AS relay,
    nullif(lower(peer['ip']), '') AS relay_ip,
    outcome AS status,
    reply_code(stat) AS code,
    CASE WHEN outcome <> 'sent' THEN reply_status(stat) END AS enhanced,
    units_us(took) AS delay,
    CASE
      WHEN stat_ = 0 THEN 'cut short'
      WHEN coalesce(to_said, '') = '' OR contains(evpid, ' ') OR length(evpid) <> 16 OR outcome IS NULL THEN 'not understood'
      WHEN outcome <> 'sent' THEN nullif(stat, '')
    END AS reply,
    CASE WHEN outcome = 'sent' THEN next_queue_id(stat) END AS next_qid
  FROM (
    SELECT
      *,
      CASE
        WHEN via IS NULL THEN NULL
        WHEN plain_ > 0 THEN {'before': '', 'ip': substring(via, 2, plain_ - 2), 'after': substring(via, plain_ + 2, length(via) - plain_ - 3)}
        ELSE regexp_extract(
          replace(via, 'IPv6:', ''),
          '^"?(?:([^ "\[\],()]*[^ "\[\],()0-9.:a-fA-F][^ "\[\],()]*|) ?)?(?:\[?([0-9a-fA-F.:]*[.:][0-9a-fA-F.:]*)\]?)(?: \(([^)]*)\))?[",]*$',
          ['before', 'ip', 'after']
        )
      END AS found,
      struct_pack(ip := CASE WHEN found['ip'] IS NULL THEN '' ELSE found['ip'] END,
        behind := CASE WHEN coalesce(found['after'], '') NOT IN ('', '<unknown>') THEN found['after'] ELSE coalesce(found['before'], '') END) AS peer,
      CASE lower(result)
        WHEN 'ok' THEN 'sent' WHEN 'tempfail' THEN 'deferred' WHEN 'permfail' THEN 'bounced' WHEN 'loop' THEN 'bounced'
        WHEN 'expire' THEN 'expired' WHEN 'remove' THEN 'expired'
      END AS outcome
    FROM (
      -- "192.0.2.1 (mx.d)"
      SELECT *, CASE WHEN ascii(substring(via, 2, 1)) BETWEEN 48 AND 57 AND suffix(via, ')"') AND NOT contains(via, '<') THEN position(' (' IN via) ELSE 0 END
        AS plain_
      FROM cut
    )
  )
),
-- smtp message msgid=c405e39a size=303 nrcpt=1 proto=ESMTP          smtp envelope evpid=c405e39ad6bbc64f from=<a@b> to=<c@d>
-- smtp event=message address=192.0.2.9 host=app msgid=c405e39a from=<a@b> to=<c@d> size=303 ndest=1 proto=ESMTP
-- smtp-in: Accepted message c405e39a on session 08d856b172f69c5c: from=<a@b>, to=<c@d>, size=303, ndest=1, proto=ESMTP
came AS (
  SELECT
    line, text, start, at_us, colon, class, mail AS evpid,
    CASE WHEN unread THEN 'rejected' WHEN class = 4 THEN 'begin' ELSE 'queued' END AS kind,
    CASE WHEN class <> 4 AND from_ > 0 AND NOT unread THEN CASE WHEN from_said = '@' THEN '' ELSE from_said END END AS sender,
    CASE WHEN size_ > 0 THEN TRY_CAST(left(counted, position(' ' IN counted) - 1) AS BIGINT) END AS size,
    CASE
      WHEN class <> 4 THEN NULL
      WHEN substring(text, body + 40, 7) = 'nrcpt=1' AND substring(text, body + 39, 1) = ' ' AND substring(text, body + 47, 1) = ' ' AND size_ = 28 THEN 1
      ELSE TRY_CAST(regexp_extract(substring(text, body), ' nrcpt=([0-9]+)', 1) AS INTEGER)
    END AS nrcpt,
    CASE WHEN unread THEN 'not understood' END AS reply
  FROM (
    SELECT
      *,
      CASE
        WHEN class = 4 THEN NULL
        WHEN from_ = 37 AND close > body + 42 THEN substring(text, body + 43, close - body - 43)
        ELSE split_part(substring(text, body + from_ + 6), '>', 1)
      END AS from_said,
      contains(mail, ' ') OR length(mail) <> 8 AS unread,
      CASE WHEN size_ > 0 THEN replace(concat(substring(text, body + size_ + 5, 20), ' '), ',', ' ') END AS counted
    FROM (
      SELECT
        *,
        -- as places in the body, from 1
        CASE
          WHEN class = 4 THEN 0
          WHEN class = 3 AND substring(text, body + 36, 7) = ' from=<' AND NOT contains(substring(text, body + 20, 16), ' ') THEN 37
          ELSE position(' from=<' IN substring(text, body))
        END AS from_,
        CASE WHEN class = 3 THEN position('>' IN text) ELSE 0 END AS close,
        CASE
          WHEN class = 4 AND substring(text, body + 27, 6) = ' size=' AND NOT contains(mail, ' ') THEN 28
          WHEN class = 3 AND close = length(text) AND NOT contains(substring(text, body + 14, 6), ' ') THEN 0
          ELSE position(' size=' IN substring(text, body))
        END AS size_
      FROM (
        SELECT
          *,
          CASE class
            WHEN 3 THEN substring(text, body + 20, 8)
            WHEN 4 THEN substring(text, body + 19, 8)
            WHEN 5 THEN substring(text, body + position(' msgid=' IN substring(text, body)) + 6, 8)
            ELSE substring(text, body + 26, 8)
          END AS mail
        FROM sorted
        WHERE class BETWEEN 3 AND 6
      )
    )
  )
),
rare AS (
  SELECT
    line, text, start, at_us, colon, class,
    CASE class WHEN 8 THEN 'loss' ELSE 'rejected' END AS kind,
    CASE WHEN class = 9 THEN CASE WHEN start IS NULL THEN 'no time stamp' ELSE 'no such time' END END AS reply
  FROM sorted
  WHERE class = 9 OR (class = 8 AND (
    regexp_matches(text, 'lost [0-9]+ messages|[0-9]+ messages lost|begins? to drop messages')
    OR regexp_matches(text, '[Ss]uppressed [0-9]+ messages') AND (contains(text, 'smtpd') OR NOT contains(text, '.service'))
  ))
),
united AS (
  SELECT * FROM usual
  UNION ALL BY NAME
  SELECT
    line, text, start, at_us, colon, class, evpid,
    CASE WHEN twin THEN 'queued' ELSE kind END AS kind,
    CASE WHEN twin THEN '' WHEN kind <> 'rejected' THEN sender END AS sender,
    CASE WHEN kind <> 'rejected' AND NOT twin THEN recipient END AS recipient,
    CASE WHEN NOT twin THEN orig_to END AS orig_to,
    CASE WHEN kind <> 'rejected' AND NOT twin THEN relay END AS relay,
    CASE WHEN kind <> 'rejected' AND NOT twin THEN relay_ip END AS relay_ip,
    CASE WHEN kind <> 'rejected' AND NOT twin THEN status END AS status,
    CASE WHEN kind <> 'rejected' AND NOT twin THEN code END AS code,
    CASE WHEN kind <> 'rejected' AND NOT twin THEN enhanced END AS enhanced,
    CASE WHEN kind <> 'rejected' AND NOT twin THEN delay END AS delay,
    CASE WHEN NOT twin THEN reply END AS reply,
    CASE WHEN NOT twin THEN next_qid END AS next_qid
  FROM tried
  WHERE NOT twin OR (bounce AND kind = 'attempt')
  UNION ALL BY NAME
  SELECT * FROM came
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
  CASE WHEN lost THEN '' ELSE left(evpid, 8) END AS qid,
  kind,
  line,
  sender,
  recipient,
  orig_to,
  relay,
  relay_ip,
  NULL::INTEGER AS relay_port,
  status,
  CASE WHEN code BETWEEN 200 AND 599 THEN code END AS code,
  enhanced,
  delay,
  reply,
  NULL::VARCHAR AS message_id,
  next_qid,
  size,
  nrcpt,
  CASE WHEN lost THEN left(text, 2000) END AS text
FROM (
  SELECT *, kind IN ('rejected', 'loss') AS lost, position(' ' IN substring(text, start, colon - start)) AS space FROM united
)
CROSS JOIN params
