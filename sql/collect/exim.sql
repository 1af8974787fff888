-- Purpose: lines of an Exim main log to events; stateless, so that blocks parse anywhere. An arrival gives `queued`, with
--   the message-id and (where Exim logs it) the subject as a `header`; a delivery line gives an `attempt` for its address.
--   `sorted` finds the message id and the flag behind it; each kind then cuts its own lines with cheap string functions,
--   and only addresses in quotes, in lists of parents or without a domain take patterns. Positions count from the start of the line.
-- Format: exim, the main log of Exim
-- Version: 1
-- Input: lines
-- Detect: ^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?(?: [+-]\d{4})?(?: \[\d+\])? \w{6}-\w{6}(?:\w{5})?-\w\w(?:\w\w)? (?:<=|\(=|[=>*-]>|>>|==|\*\*|Completed)
-- Detect: ^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?(?: [+-]\d{4})?(?: \[\d+\])? (?:Start|End) queue run: pid=
-- Detect: exim\d?(?:\[\d+\])?: .{0,80}\b\w{6}-\w{6}(?:\w{5})?-\w\w(?:\w\w)? (?:<=|\(=|[=>*-]>|>>|==|\*\*|Completed)
-- Facts: Exim's specification, chapter "Log files"; src/deliver.c (string_log_address, delivery_log, deferral_log,
--   failure_log), receive.c, retry.c ("retry timeout exceeded"), log.c (syslog pieces `[1/3]`, log_timezone, millisec, pid).
-- Parameters: host VARCHAR ('' keeps the logged one; a log file names none), those of setup/stamped. Reads stamped,
--   setup/replies.
-- Columns: at_us, host, instance, qid, kind, line, sender, recipient, orig_to, relay, relay_ip, relay_port, status, code,
--   enhanced, delay, reply, message_id, next_qid, size, nrcpt, text. Times are microseconds UTC; what is absent is NULL
--   (host, instance, qid and kind are never), and so is the reply to a mail that was accepted. A delivery without a host has
--   its transport as the relay.
WITH own AS (
  -- A line of a log file begins with Exim's own time. A message id right behind it is the usual case.
  SELECT line, text, 1 AS said, NULL::BIGINT AS start, NULL::BIGINT AS colon, NULL::BIGINT AS given_us, true AS timed
  FROM lines
  WHERE substring(text, 5, 1) = '-' AND substring(text, 11, 1) = ' '
    AND (substring(text, 27, 1) = '-' OR NOT contains(substring(text, 21, 99), ' exim'))
),
wrapped AS (
  -- Behind a syslog header Exim's own time may stand again. Of a text in pieces, `[1/3] `, the first is read.
  SELECT
    line, text, said, start, colon, at_us AS given_us,
    substring(text, said + 4, 1) = '-' AND substring(text, said + 10, 1) = ' ' AND substring(text, said + 13, 1) = ':' AS timed
  FROM (
    SELECT
      line, text, start, colon, at_us,
      CASE WHEN substring(text, colon + 2, 3) IN ('[1/', '[1\') THEN colon + 3 + position('] ' IN substring(text, colon + 2, 12))
        ELSE colon + 2 END AS said
    FROM stamped
    JOIN (
      SELECT line
      FROM lines
      WHERE NOT (substring(text, 5, 1) = '-' AND substring(text, 11, 1) = ' ')
        OR NOT (substring(text, 27, 1) = '-' OR NOT contains(substring(text, 21, 99), ' exim'))
    ) AS other USING (line)
  )
),
placed AS (
  -- Before the message id there may be more than the time: milliseconds, the zone, the process id.
  SELECT
    *,
    CASE
      WHEN NOT timed THEN CASE WHEN substring(text, said, 1) = '[' THEN said + position('] ' IN substring(text, said, 14)) + 1 ELSE said END
      WHEN substring(text, said + 26, 1) = '-' AND substring(text, said + 19, 1) = ' ' THEN said + 20
      ELSE said + length(regexp_extract(substring(text, said, 64), '^.{19}(?:\.[0-9]+)?(?: [+-][0-9]{4})?(?: \[[0-9]+\])? '))
    END AS id
  FROM (FROM own UNION ALL FROM wrapped)
),
flagged AS (
  SELECT
    *,
    substring(text, id + width + 1, 3) AS flag,
    CASE WHEN timed THEN substring(text, said, 19) ELSE '' END AS mark
  FROM (
    SELECT
      *,
      CASE
        WHEN substring(text, id + 6, 1) <> '-' THEN 0
        WHEN substring(text, id + 18, 1) = '-' AND substring(text, id + 23, 1) = ' ' THEN 23
        WHEN substring(text, id + 13, 1) = '-' AND substring(text, id + 16, 1) = ' ' THEN 16
        ELSE 0
      END AS width
    FROM placed
  )
),
moment AS (
  -- Each second once: turning texts into times is slow. bare_us: taken for UTC, for times with an offset.
  SELECT mark, epoch_us(TRY_CAST(mark AS TIMESTAMPTZ)) AS own_us, epoch_us(TRY_CAST(mark AS TIMESTAMP)) AS bare_us
  FROM (SELECT DISTINCT left(text, 19) AS mark FROM own UNION SELECT DISTINCT substring(text, said, 19) FROM wrapped WHERE timed)
),
sorted AS MATERIALIZED (
  SELECT
    line, text, said, start, colon, width, id, flag,
    CASE
      WHEN NOT timed THEN given_us
      WHEN id = said + 20 THEN own_us
      ELSE coalesce(bare_us - offset_us(regexp_extract(substring(text, said, 64), '^.{19}(?:\.[0-9]+)? ([+-][0-9]{4}) ', 1)), own_us)
        + coalesce(TRY_CAST(rpad(regexp_extract(substring(text, said + 19, 8), '^\.([0-9]+)', 1), 6, '0') AS BIGINT), 0)
    END AS at_us,
    CASE
      WHEN width > 0 THEN CASE flag
        WHEN '=> ' THEN 2
        WHEN '<= ' THEN 1
        WHEN 'Com' THEN CASE WHEN starts_with(substring(text, id + width + 1, 9), 'Completed') THEN 5 ELSE 0 END
        WHEN '-> ' THEN 2
        WHEN '== ' THEN 3
        WHEN '** ' THEN 4
        WHEN '>> ' THEN 2
        WHEN '(= ' THEN 1
        WHEN 'rem' THEN CASE WHEN starts_with(substring(text, id + width + 1, 11), 'removed by ') THEN 6 ELSE 0 END
        WHEN 'can' THEN CASE WHEN starts_with(substring(text, id + width + 1, 21), 'cancelled by timeout_') THEN 6 ELSE 0 END
        ELSE CASE WHEN flag IN ('<=', '(=', '=>', '->', '>>', '==', '**') THEN 9 ELSE 0 END
      END
      WHEN regexp_matches(substring(text, said, 3), '^\[[2-9]') THEN 0
      WHEN regexp_matches(text, '\b\w{6}-\w{6}(?:\w{5})?-\w\w(?:\w\w)? (?:[<(]=|[=-]>|>>|==|\*\*) [^ ]') THEN 9
      WHEN contains(text, ' messages') AND regexp_matches(substring(text, start, colon - start), 'journal|syslog') THEN 8
      ELSE 0
    END AS class
  FROM flagged
  LEFT JOIN moment ON moment.mark = flagged.mark
),
-- <= sender H=host [ip] P=esmtp S=123 id=a@b T="subject" from <sender> for a@b c@d
arrived AS (
  SELECT
    line, text, said, start, colon, id, width, at_us, class,
    'queued' AS kind,
    CASE
      WHEN starts_with(tail, '"') THEN regexp_extract(tail, '^"(?:[^"\\]|\\.)*"(?:@[^ ]*)?')
      WHEN starts_with(tail, '<> ') OR tail = '<>' THEN ''
      WHEN space > 0 THEN left(tail, space - 1)
      ELSE tail
    END AS sender,
    CASE WHEN size_ > 0 THEN TRY_CAST(left(counted, position(' ' IN counted) - 1) AS BIGINT) END AS size,
    CASE
      WHEN id_ = 0 THEN NULL
      WHEN starts_with(named, '<') THEN left(named, position('>' IN named))
      ELSE concat('<', left(named, position(' ' IN named) - 1), '>')
    END AS message_id,
    CASE WHEN for_ > 0 THEN len(string_split(trim(substring(tail, for_ + 6)), ' ')) END AS nrcpt,
    CASE WHEN subject_ > 0 THEN regexp_extract(substring(tail, subject_ + 3), '^"((?:[^"\\]|\\.)*)', 1) END AS subject
  FROM (
    SELECT
      *,
      concat(substring(tail, size_ + 3, 18), ' ') AS counted,
      concat(substring(tail, id_ + 4), ' ') AS named,
      CASE
        WHEN subject_ > 0 THEN greatest(position('" for ' IN tail), position('> for ' IN tail))
        ELSE position(' for ' IN tail) - 1
      END AS for_
    FROM (
      SELECT
        *,
        position(' ' IN tail) AS space,
        position(' S=' IN tail) AS size_,
        position(' id=' IN tail) AS id_,
        position(' T="' IN tail) AS subject_
      FROM (SELECT *, substring(text, id + width + 4) AS tail FROM sorted WHERE class = 1)
    )
  )
),
titled AS (
  SELECT
    line, text, said, start, colon, id, width, at_us, class,
    'header' AS kind,
    concat('header Subject: ', CASE
      WHEN NOT contains(subject, '\') THEN subject
      -- octal codes of bytes, and escaped quotes
      ELSE coalesce(TRY(decode(unhex(array_to_string(list_transform(
        regexp_extract_all(subject, '\\[0-7]{3}|\\.|[^\\]+'),
        lambda piece: CASE
          WHEN regexp_matches(piece, '^\\[0-7]{3}$') THEN printf('%02x',
            (ascii(substring(piece, 2, 1)) - 48) * 64 + (ascii(substring(piece, 3, 1)) - 48) * 8 + ascii(substring(piece, 4, 1)) - 48)
          ELSE hex(encode(CASE WHEN starts_with(piece, '\') AND length(piece) = 2 THEN substring(piece, 2) ELSE piece END))
        END
      ), '')))), subject)
    END) AS note
  FROM arrived
  WHERE subject IS NOT NULL
),
-- => a@b <parent@c> F=<s@d> R=router T=transport H=host [ip]:25 X=... C="250 ok" QT=1s
-- == a@b R=router T=transport defer (-44) H=host [ip]: reason     ** a@b R=router T=transport H=host [ip]: reason
addressed AS (
  SELECT
    *,
    CASE
      WHEN class = 3 THEN position(' defer (' IN tail) - 1
      WHEN class = 4 AND (starts_with(tail, '"') OR contains(tail, ' DN="')) THEN  -- colons in quotes
        length(regexp_extract(tail, '^(?:[^" :]+|: ?[^" ]|"(?:[^"\\]|\\.)*"| )*?: ')) - 2
      WHEN class = 4 THEN position(': ' IN tail) - 1
      WHEN position(' C="' IN tail) > 0 THEN position(' C="' IN tail) - 1
      ELSE length(tail)
    END AS told,
    space > 1 AND substring(tail, space + 2, 1) = '=' AND contains(left(tail, space - 1), '@')
      AND ascii(tail) NOT IN (34, 40, 47, 58, 62, 124) AS plain,  -- " ( / : > |
    space > 1 AND substring(tail, space + 1, 1) = '<' AND ascii(tail) NOT IN (34, 40, 124)
      AND substring(tail, space + 2, 1) <> '"' AS topped
  FROM (
    SELECT *, position(' ' IN tail) AS space
    FROM (SELECT *, substring(text, id + width + 4) AS tail FROM sorted WHERE class BETWEEN 2 AND 4)
  )
),
named AS (
  SELECT
    *,
    CASE WHEN told < 1 THEN '' ELSE left(tail, told) END AS head,
    CASE
      WHEN NOT plain AND NOT topped THEN regexp_extract(
        tail,
        '^("(?:[^"\\]|\\.)*"(?:@[^ :]*)?|.*?)(?: \([^()]*\))?(?: <("(?:[^"\\]|\\.)*"(?:@[^>]*)?|[^>]*)>)?'
        '(?: (?:[FPRTQHSXC]|ST|DT|QT)=.*| (?:routing )?defer \(.*|: .*|:)?$',
        ['name', 'top']
      )
    END AS deep
  FROM addressed
),
cut AS (
  SELECT
    *,
    CASE WHEN plain OR topped THEN left(tail, space - 1) ELSE deep['name'] END AS name,
    CASE
      WHEN plain THEN ''
      WHEN topped THEN substring(tail, space + 2, position('>' IN tail) - space - 2)
      ELSE deep['top']
    END AS top,
    CASE class
      WHEN 3 THEN substring(tail, told + 9)
      WHEN 4 THEN substring(tail, told + 3)
    END AS rest,
    position(' H=' IN head) AS host_,
    position(' T=' IN head) AS transport_
  FROM named
),
hosted AS (
  SELECT
    *,
    CASE
      WHEN host_ > 0 THEN substring(head, host_ + 3)
      WHEN class = 2 THEN NULL
      WHEN class = 3 AND regexp_matches(rest, '^-?[0-9]+\)(?:: [A-Z][A-Za-z ]+)? H=') THEN substring(rest, position(' H=' IN rest) + 3)
      WHEN contains(rest, ' [') THEN regexp_extract(
        rest, '(?:[Rr]emote host|host|connected to|[Cc]onnect(?:ion)? to|^-?[0-9]+\):) ([^ \[\]]+ \[[0-9A-Fa-f.:]+\](?::[0-9]+)?)', 1
      )
    END AS via,
    CASE
      WHEN class = 2 THEN NULL
      WHEN contains(rest, ' DT=') OR contains(rest, ' H=') THEN  -- what other selectors put before and behind the reason
        regexp_replace(
          regexp_replace(replace(told_why, '\n', ' '), '^([A-Z][A-Za-z ]+) H=[^ ]+ \[[^\]]+\](?::[0-9]+)?(?: I=[^ ]+)?(?: DT=[0-9a-z.]+)?(: |$)', '\1\2'),
          '(?: (?:DT|QT)=[0-9a-z.]+)+$', ''
        )
      ELSE replace(told_why, '\n', ' ')
    END AS reason
  FROM (
    SELECT *, CASE class WHEN 3 THEN trim(substring(rest, position(': ' IN rest) + 2)) WHEN 4 THEN trim(rest) END AS told_why FROM cut
  )
),
tried AS (
  SELECT
    line, text, said, start, colon, id, width, at_us, class,
    CASE WHEN address = '' OR told < 1 THEN 'rejected' ELSE 'attempt' END AS kind,
    address AS recipient,
    CASE WHEN top <> address THEN top END AS orig_to,
    CASE
      WHEN open > 0 AND starts_with(via, '[') THEN lower(trim(left(via, open - 1), '[]'))
      WHEN open > 0 THEN lower(left(via, open - 1))
      WHEN class = 2 AND transport_ > 0 THEN split_part(substring(head, transport_ + 3, 80), ' ', 1)
    END AS relay,
    CASE WHEN open > 0 AND close > open THEN substring(via, open + 2, close - open - 2) END AS relay_ip,
    CASE WHEN close > 0 AND substring(via, close + 1, 1) = ':' THEN TRY_CAST(regexp_extract(substring(via, close + 2, 6), '^[0-9]+') AS INTEGER) END
      AS relay_port,
    CASE
      WHEN class = 2 THEN 'sent'
      WHEN class = 3 THEN 'deferred'
      WHEN regexp_matches(
        reason, 'retry timeout exceeded$|failing for a long time|message timed out|delivery cancelled by administrator'
      ) THEN 'expired'
      ELSE 'bounced'
    END AS status,
    CASE
      WHEN class = 2 THEN reply_code(accepted)
      ELSE TRY_CAST(nullif(regexp_extract(reason, '(?:^|: )([245][0-9][0-9])(?:[ -]|$)', 1), '') AS INTEGER)
    END AS code,
    CASE
      WHEN class > 2
        THEN nullif(regexp_extract(reason, '(?:^|: )[245][0-9][0-9][ -]#?([245]\.[0-9]{1,3}\.[0-9]{1,3})(?:[^0-9.]|$|\.(?:[^0-9]|$))', 1), '')
      WHEN substring(accepted, 6, 1) = '.' AND substring(accepted, 8, 1) = '.' AND substring(accepted, 10, 1) = ' '
        THEN substring(accepted, 5, 5)
    END AS enhanced,
    CASE WHEN waited > 0 THEN units_us(split_part(substring(tail, waited + 4, 24), ' ', 1)) END AS delay,
    CASE WHEN address = '' OR told < 1 THEN 'not understood' ELSE nullif(reason, '') END AS reply,
    next_queue_id(accepted) AS next_qid
  FROM (
    SELECT
      *,
      CASE
        WHEN top = '' THEN name
        WHEN NOT contains(name, '@') OR ascii(name) IN (47, 58, 62, 124) THEN top
        WHEN starts_with(top, '"') AND replace(top, '"', '') = name THEN top  -- "a b"@c stands as a b@c
        ELSE name
      END AS address,
      position(' [' IN via) AS open,
      position(']' IN substring(via, position(' [' IN via) + 1)) + position(' [' IN via) AS close,
      CASE WHEN class = 2 THEN substring(tail, told + 5) END AS accepted,
      CASE WHEN class = 2 THEN position(' QT=' IN tail) ELSE 0 END AS waited
    FROM hosted
  )
),
rare AS (
  SELECT
    line, text, said, start, colon, id, width, at_us, class,
    CASE class WHEN 5 THEN 'removed' WHEN 6 THEN CASE flag WHEN 'rem' THEN 'removed' ELSE 'expired' END WHEN 8 THEN 'loss' ELSE 'rejected' END
      AS kind,
    CASE WHEN class = 6 AND flag = 'rem' THEN 'deleted' WHEN class = 6 THEN 'expired' END AS status,
    CASE WHEN class = 9 THEN CASE WHEN start IS NULL AND said <> 1 THEN 'no time stamp' ELSE 'not understood' END END AS reply
  FROM sorted
  WHERE class > 4 AND (class <> 8 OR regexp_matches(text, 'lost [0-9]+ messages|[0-9]+ messages lost|begins? to drop messages'))
),
united AS (
  SELECT * EXCLUDE (subject) FROM arrived
  UNION ALL BY NAME
  SELECT * FROM titled
  UNION ALL BY NAME
  SELECT * FROM tried
  UNION ALL BY NAME
  SELECT * FROM rare
)
SELECT
  coalesce(at_us, 0) AS at_us,
  CASE
    WHEN params.host <> '' THEN params.host
    WHEN said > 1 AND start < colon THEN split_part(substring(text, start, colon - start), ' ', 1)
    ELSE ''
  END AS host,
  '' AS instance,
  CASE WHEN unread OR class = 8 THEN '' ELSE substring(text, id, width) END AS qid,
  CASE WHEN unread THEN 'rejected' ELSE kind END AS kind,
  line,
  CASE WHEN NOT unread THEN sender END AS sender,
  CASE WHEN NOT unread THEN recipient END AS recipient,
  CASE WHEN NOT unread THEN orig_to END AS orig_to,
  CASE WHEN NOT unread THEN relay END AS relay,
  CASE WHEN NOT unread THEN relay_ip END AS relay_ip,
  CASE WHEN NOT unread THEN relay_port END AS relay_port,
  CASE WHEN NOT unread THEN status END AS status,
  CASE WHEN NOT unread AND code BETWEEN 200 AND 599 THEN code END AS code,
  CASE WHEN NOT unread THEN enhanced END AS enhanced,
  CASE WHEN NOT unread THEN delay END AS delay,
  CASE WHEN unread AND class < 8 AND at_us IS NULL THEN 'no such time' ELSE reply END AS reply,
  CASE WHEN NOT unread THEN message_id END AS message_id,
  CASE WHEN NOT unread THEN next_qid END AS next_qid,
  CASE WHEN NOT unread THEN size END AS size,
  CASE WHEN NOT unread THEN nrcpt END AS nrcpt,
  CASE WHEN unread OR class = 8 THEN left(text, 2000) ELSE note END AS text
FROM (SELECT *, kind = 'rejected' OR (at_us IS NULL AND class < 8) AS unread FROM united)
CROSS JOIN params
WHERE NOT (unread AND kind = 'header')
