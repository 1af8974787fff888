-- Purpose: lines of a Postfix log to events, at most one for a line; stateless, so that blocks parse anywhere.
--   `sorted` tells from the first words of a line what it is; each kind then cuts its own lines, from left to right, with
--   cheap string functions. A delivery line that fails their shape check takes the full pattern (`deep`), and what fails
--   that as well is kept as `rejected` with its reason. Positions count from the start of the line: in a block of plain
--   ASCII, DuckDB then cuts without looking at each character.
-- Format: postfix, the log of Postfix
-- Version: 5
-- Input: syslog
-- Events: single
-- Detect: ^[\w.-]+(?:/[\w.-]+)*/(?:smtpd?|lmtp|qmgr|nqmgr|oqmgr|cleanup|pickup|bounce|defer|trace|error)(?:\[|:)
-- Detect: ^[\w.-]+(?:/[\w.-]+)*/(?:retry|local|virtual|pipe|master|postfix-script|anvil|tlsmgr|tlsproxy)(?:\[|:)
-- Detect: ^[\w.-]+(?:/[\w.-]+)*/(?:postscreen|scache|verify|trivial-rewrite|dnsblog|discard|relay|postsuper)(?:\[|:)
-- Detect: ^[\w.-]+(?:/[\w.-]+)*/(?:postqueue|postmulti|sendmail|postdrop|proxymap|postlogd|submissions?)(?:\[|:)
-- Detect: ^[\w.-]+(?:/[\w.-]+)*/(?:smtps|flush|spawn|showq)(?:\[|:)
-- Detect: ^postfix[\w.-]*(?:\[\d+\])?: (?:[0-9A-F]{6,}|[0-9A-Za-z]{10,}): (?:to=<|from=<|client=|message-id=|removed$)
-- Facts: Postfix src/global/log_adhoc.c (to=, relay=, delays=, dsn=, status=), mail_queue.h (queue ids), qmgr, cleanup,
--   pickup, bounce and smtpd; what rsyslog and journald say of lines that they lost. rsyslog's RFC 5424 form says
--   `postfix` alone for the program.
-- Parameters: host VARCHAR ('' keeps the logged one), those of setup/stamped. Reads stamped.
-- Columns: at_us, host, instance, qid, kind, line, sender, recipient, orig_to, relay, relay_ip, relay_port, status, code,
--   enhanced, delay, reply, message_id, next_qid, size, nrcpt, text. Times are microseconds UTC; what is absent is NULL
--   (host, instance, qid and kind are never), and so is the reply to a mail that was accepted.
WITH worded AS (
  -- colon: where `mta1 postfix/smtp[30]` ends; gap: length of the queue id + 1; word: how what follows it begins.
  SELECT *, substring(text, colon + gap + 3, 12) AS word
  FROM (SELECT *, position(': ' IN substring(text, colon + 2)) AS gap FROM stamped)
),
sorted AS MATERIALIZED (
  SELECT
    line,
    text,
    start,
    at_us,
    colon,
    gap,
    colon + gap + 3 AS body,
    CASE WHEN at_us IS NULL AND class BETWEEN 1 AND 7 THEN 9 ELSE class END AS class
  FROM (
    SELECT
      *,
      CASE
        WHEN start IS NULL THEN CASE WHEN trim(text) = '' OR starts_with(text, '-- ') THEN 0 ELSE 9 END  -- journalctl's own
        WHEN gap BETWEEN 6 AND 31 AND starts_with(word, 'to=') THEN 1
        WHEN gap BETWEEN 6 AND 31 AND starts_with(word, 'client=')
          THEN CASE WHEN substring(text, colon + 2, 7) = 'NOQUEUE' THEN 0 ELSE 5 END
        WHEN gap BETWEEN 6 AND 31 AND starts_with(word, 'message-id=') THEN 3
        WHEN gap BETWEEN 6 AND 31 AND word = 'resent-messa' THEN 3
        WHEN gap BETWEEN 6 AND 31 AND starts_with(word, 'from=') THEN 4
        WHEN gap BETWEEN 6 AND 31 AND word = 'removed' THEN 2
        WHEN gap BETWEEN 6 AND 31 AND starts_with(word, 'uid=') AND contains(text, ' from=<') THEN 5
        WHEN word = 'info: header' OR word = 'warning: hea' THEN 6
        WHEN starts_with(word, 'sender ') OR starts_with(word, 'postmaster n') THEN 7
        WHEN gap = 8 AND substring(text, colon + 2, 8) = 'Requeue:' THEN 7
        WHEN contains(text, ' messages') THEN 8
        WHEN starts_with(substring(text, colon, 19), ': message repeated ') AND contains(text, ': to=') THEN 1
        ELSE 0
      END AS class
    FROM worded
  )
  WHERE class > 0
),
begun AS (
  -- client=a.example[192.0.2.1], orig_queue_id=4A0, ...     uid=0 from=<root> orig_id=4A0
  -- A sender that pickup names may lack its domain; that of qmgr counts before it.
  SELECT
    line, text, start, at_us, colon, gap, class,
    CASE WHEN handed AND contains(text, ' orig_id=') THEN 'requeue' ELSE 'begin' END AS kind,
    CASE WHEN handed THEN regexp_extract(text, ' (?:orig_id|orig_queue_id)=([0-9A-Za-z]+)', 1) END AS next_qid,
    CASE
      WHEN starts_with(substring(text, body, 4), 'uid=') THEN regexp_extract(text, ' from=<(.*?)>(?: orig_id=|$)', 1)
    END AS sender
  FROM (
    SELECT *, contains(text, 'orig_') AS handed
    FROM sorted
    WHERE class = 5
  )
),
ended AS (
  -- Removed by postsuper: deleted by a person, not done.
  SELECT
    line, text, start, at_us, colon, gap, class,
    'removed' AS kind,
    CASE WHEN contains(text, '/postsuper[') THEN 'deleted' END AS status
  FROM sorted
  WHERE class = 2
),
named AS (
  SELECT
    line, text, start, at_us, colon, gap, class,
    'message' AS kind,
    CASE WHEN substring(text, body, 6) = 'resent' THEN 'resent' END AS status,
    substring(text, body + CASE WHEN substring(text, body, 6) = 'resent' THEN 18 ELSE 11 END) AS message_id
  FROM sorted
  WHERE class = 3
),
queued AS (
  -- from=<a@b>, size=1, nrcpt=1 (queue active)     from=<a@b>, status=expired, returned to sender
  SELECT
    line, text, start, at_us, colon, gap, class,
    CASE
      WHEN plain OR contains(tail, ', nrcpt=') THEN 'queued'
      WHEN contains(tail, ', status=expired') OR contains(tail, ', status=force-expired') THEN 'expired'
      WHEN contains(substring(text, start, colon - start), '/qmgr[') THEN 'rejected'
    END AS kind,
    CASE
      WHEN plain THEN substring(text, body + 6, size_ - 7)
      ELSE regexp_extract(tail, '^from=<?(.*?)>?, (?:size|nrcpt|status)=', 1)
    END AS sender,
    CASE WHEN NOT plain THEN nullif(regexp_extract(tail, ', status=([a-z-]+)', 1), '') END AS status,
    TRY_CAST(left(numbers, position(',' IN numbers) - 1) AS BIGINT) AS size,
    TRY_CAST(
      substring(numbers, position('=' IN numbers) + 1, position(' (' IN numbers) - position('=' IN numbers) - 1) AS INTEGER
    ) AS nrcpt
  FROM (
    SELECT
      *,
      CASE
        WHEN plain THEN substring(text, body + size_ + 7, 48)
        ELSE regexp_extract(tail, ', size=([0-9]+, nrcpt=[0-9]+ .*)', 1)
      END AS numbers
    FROM (
      SELECT
        *,
        position('>, size=' IN tail) AS size_,
        position('>, size=' IN tail) > 0 AND starts_with(tail, 'from=<') AS plain
      FROM (SELECT *, substring(text, body) AS tail FROM sorted WHERE class = 4)
    )
  )
),
-- to=<a@b>, orig_to=<c@d>, relay=mx.b[192.0.2.1]:25, conn_use=2, delay=1, delays=0/0/0/1, dsn=2.0.0, status=sent (250 ok)
addressed AS (
  SELECT *, body + bracket + 8 AS via_at, substring(text, body + bracket + 8) AS via
  FROM (
    SELECT *, position('>, relay=' IN tail) AS bracket
    FROM (SELECT *, substring(text, body) AS tail FROM sorted WHERE class = 1)
  )
),
keyed AS (
  SELECT
    *,
    position('delay=' IN rest) AS delay_,
    position(', delays=' IN rest) AS delays_,
    position(', dsn=' IN rest) AS dsn_,
    position(', status=' IN rest) AS status_
  FROM (
    SELECT *, via_at + comma + 1 AS rest_at, substring(text, via_at + comma + 1) AS rest
    FROM (SELECT *, position(', ' IN via) AS comma FROM addressed)
  )
),
shaped AS (
  SELECT
    *,
    bracket > 0 AND starts_with(tail, 'to=<') AND NOT contains(to_, '>') AND NOT starts_with(to_, '"')
      AND comma > 0 AND delay_ > 0 AND delays_ BETWEEN delay_ + 7 AND delay_ + 24 AND dsn_ > delays_ AND status_ > dsn_
      AND left(back, paren) IN ('sent ', 'deferred ', 'bounced ') AND suffix(text, ')') AS plain
  FROM (
    SELECT *, substring(text, body + 4, bracket - 5) AS to_, position(' (' IN back) AS paren
    FROM (SELECT *, rest_at + status_ + 8 AS back_at, substring(text, rest_at + status_ + 8) AS back FROM keyed)
  )
),
matched AS (
  SELECT
    *,
    CASE
      WHEN NOT plain THEN regexp_extract(
        regexp_replace(substring(text, colon + 2), '^message repeated [0-9]+ times: \[ (.*?) *\]$', '\1'),
        '^([0-9A-Za-z]{5,30}): '
        'to=(?:<((?:"(?:[^"\\]|\\.)*"(?:@[^>]*)?)|.*?)>|([^<,]*)), '
        '(?:orig_to=(?:<((?:"(?:[^"\\]|\\.)*"(?:@[^>]*)?)|.*?)>|([^<,]*)), )?'
        '(?:relay=([^,<>]*), )?(?:conn_use=[0-9]+, )?(?:delay=([0-9.]+), )?(?:delays=[0-9./]+, )?(?:[a-z_]+=[^,<>]*, )*?'
        '(?:dsn=([0-9.]+), )?status=([A-Za-z-]+)(?:,? ?\(?(.*))?$',
        ['qid', 'to', 'bare', 'orig', 'orig_bare', 'relay', 'delay', 'dsn', 'status', 'reply']
      )
    END AS deep
  FROM shaped
),
cut AS (
  SELECT
    line, text, start, at_us, colon, gap, class, plain, tail,
    CASE WHEN NOT plain THEN deep['qid'] END AS deep_qid,
    CASE WHEN plain THEN to_ ELSE concat(deep['to'], deep['bare']) END AS recipient,
    CASE WHEN NOT plain THEN nullif(concat(deep['orig'], deep['orig_bare']), '') END AS orig_to,
    CASE WHEN plain THEN substring(text, via_at, comma - 1) ELSE deep['relay'] END AS via,
    CASE WHEN plain THEN substring(text, rest_at + delay_ + 5, delays_ - delay_ - 6) ELSE deep['delay'] END AS delay,
    CASE WHEN plain THEN substring(text, rest_at + dsn_ + 5, status_ - dsn_ - 6) ELSE deep['dsn'] END AS enhanced,
    CASE WHEN plain THEN substring(text, back_at, paren - 1) ELSE lower(deep['status']) END AS status,
    CASE
      WHEN plain THEN substring(text, back_at + paren + 1, length(text) - back_at - paren - 1)
      ELSE regexp_replace(rtrim(deep['reply']), '\)$', '')
    END AS reply
  FROM matched
),
tried AS (
  SELECT
    line, text, start, at_us, colon, gap, class, deep_qid, recipient, orig_to, enhanced, status,
    CASE WHEN status = '' THEN 'rejected' ELSE 'attempt' END AS kind,
    CASE WHEN open > 0 THEN lower(left(via, open - 1)) ELSE lower(via) END AS relay,
    CASE
      WHEN open > 0 AND close > open AND NOT contains(via, '/') THEN substring(via, open + 1, close - open - 1)
    END AS relay_ip,
    CASE WHEN close > 0 THEN TRY_CAST(substring(via, close + 2) AS INTEGER) END AS relay_port,
    TRY_CAST(
      CASE
        WHEN status = 'sent' THEN left(reply, 3)
        ELSE regexp_extract(reply, '(?:^|said: |refused to talk to me: )([245][0-9][0-9])(?:[ -]|$)', 1)
      END AS INTEGER
    ) AS code,
    TRY_CAST(TRY_CAST(delay AS DOUBLE) * 1000000 AS BIGINT) AS delay,
    CASE
      WHEN status = '' THEN CASE WHEN contains(tail, ', status=') THEN 'not understood' ELSE 'cut short: no status' END
      WHEN status = 'sent' THEN NULL
      WHEN contains(reply, '#01') THEN trim(regexp_replace(reply, '#01[0-7]', ' ', 'g'))  -- rsyslog's escapes
      ELSE reply
    END AS reply,
    CASE
      WHEN status <> 'sent' THEN NULL
      WHEN next_ > 0 THEN regexp_extract(substring(reply, next_ + 10, 40), '^[0-9A-Za-z]+')
      WHEN starts_with(reply, 'forwarded as ') THEN regexp_extract(reply, '^forwarded as ([0-9A-Za-z]+)', 1)
      WHEN contains(reply, 'queued_as: ') THEN regexp_extract(reply, 'queued_as: ([0-9A-Za-z]+)', 1)
    END AS next_qid
  FROM (
    SELECT
      *,
      position('[' IN via) AS open,
      position(']' IN via) AS close,
      CASE WHEN status = 'sent' THEN position('queued as ' IN reply) ELSE 0 END AS next_
    FROM cut
  )
),
rare AS (
  SELECT
    line, text, start, at_us, colon, gap, class,
    CASE class
      WHEN 6 THEN 'header'
      WHEN 7 THEN CASE WHEN starts_with(substring(text, colon), ': Requeue: ') THEN 'requeue' ELSE 'hop' END
      WHEN 8 THEN 'loss'
      ELSE 'rejected'
    END AS kind,
    CASE WHEN class = 9 THEN CASE WHEN start IS NULL THEN 'no time stamp' ELSE 'no such time' END END AS reply,
    -- MailScanner takes held mail out of the queue and puts it back: `Requeue: 4A0.A1B2C to 4A1`
    CASE
      WHEN class = 7
        THEN regexp_extract(text, '(?:notification: |: Requeue: )([0-9A-Za-z]+)(?:$|[.][0-9A-Za-z]+ to [0-9A-Za-z]+$)', 1)
    END AS next_qid,
    CASE WHEN class = 7 THEN nullif(regexp_extract(text, ': Requeue: [0-9A-Za-z.]+ to ([0-9A-Za-z]+)$', 1), '') END AS deep_qid
  FROM sorted
  WHERE class > 5
    AND CASE class
      WHEN 7 THEN regexp_matches(
        text, ' notification: [0-9A-Za-z]+$|: Requeue: [0-9A-Za-z]{5,30}[.][0-9A-Za-z]+ to [0-9A-Za-z]{5,30}$'
      )
      WHEN 8 THEN regexp_matches(substring(text, start, colon - start), 'journal|syslog')
        AND (
          regexp_matches(text, 'lost [0-9]+ messages|[0-9]+ messages lost|begins? to drop messages')
          -- journald names the unit whose lines it dropped; another service's loss is none of ours
          OR regexp_matches(text, '[Ss]uppressed [0-9]+ messages')
          AND (contains(text, 'postfix') OR NOT contains(text, '.service'))
        )
      ELSE true
    END
),
united AS (
  SELECT line, text, start, at_us, colon, gap, class, kind, next_qid, sender FROM begun
  UNION ALL BY NAME
  SELECT * FROM ended
  UNION ALL BY NAME
  SELECT * FROM named
  UNION ALL BY NAME
  SELECT * FROM queued WHERE kind IS NOT NULL
  UNION ALL BY NAME
  SELECT * FROM tried
  UNION ALL BY NAME
  SELECT * FROM rare
)
SELECT
  coalesce(at_us, 0) AS at_us,
  CASE WHEN params.host <> '' THEN params.host WHEN start IS NULL OR space = 0 THEN '' ELSE left(head, space - 1) END AS host,
  CASE
    WHEN slash = 0 AND class < 8
      THEN CASE WHEN kind = 'requeue' THEN 'postfix' ELSE regexp_extract(substring(head, space + 1), '^[^[ ]+') END
    -- busybox says the priority between host and program
    WHEN contains(instance, ' ') THEN regexp_extract(instance, '[^ ]*$')
    ELSE instance
  END AS instance,
  CASE WHEN class > 7 OR kind = 'rejected' THEN '' ELSE qid END AS qid,
  kind,
  line,
  sender,
  recipient,
  orig_to,
  relay,
  relay_ip,
  relay_port,
  status,
  CASE WHEN code BETWEEN 200 AND 599 THEN code END AS code,
  enhanced,
  delay,
  CASE WHEN kind = 'rejected' AND class = 4 THEN 'cut short' ELSE reply END AS reply,
  message_id,
  next_qid,
  size,
  nrcpt,
  CASE
    WHEN kind = 'rejected' OR class = 8 THEN left(text, 2000)
    WHEN kind = 'header'  -- `info: header X: Y from a[192.0.2.1]; from=<b> ...` to `header X: Y`, as all formats have it
      THEN regexp_extract(substring(text, colon + gap + 3), '^[a-z]+: (header .*?)(?: from [^ ;]*; from=<.*)?$', 1)
    WHEN class > 5 AND kind <> 'requeue' THEN substring(text, colon + gap + 3)
  END AS text
FROM (
  SELECT
    *,
    substring(head, space + 1, slash - space - 1) AS instance,
    coalesce(deep_qid, substring(text, colon + 2, gap - 1)) AS qid
  FROM (
    SELECT
      *,
      CASE
        WHEN position('/' IN head) > space THEN position('/' IN head)
        -- a host with a slash, as syslog-ng writes a chain of hosts
        ELSE coalesce(nullif(position('/' IN substring(head, space + 1)), 0) + space, 0)
      END AS slash
    FROM (
      SELECT *, position(' ' IN head) AS space
      FROM (SELECT *, substring(text, start, colon - start) AS head FROM united)
    )
  )
)
CROSS JOIN params
WHERE class > 7
  OR (slash > space OR (slash = 0 AND (starts_with(substring(head, space + 1, 7), 'postfix') OR kind = 'requeue')))
    AND NOT contains(qid, ' ')
