-- Purpose: lines of an Exim main log to events; stateless, so that blocks parse anywhere. An arrival gives `queued`, with
--   the message-id and (where Exim logs it) the subject as a `header`; a delivery line gives an `attempt` for its address.
--   `sorted` finds the message id and the flag behind it; each kind then cuts its own lines with cheap string functions,
--   and only addresses in quotes, in lists of parents or without a domain take patterns. Positions count from the start of the line.
--   Of a whole block it reads the lines whose shape sql/collect/shape/exim.sql does not know; sql/collect/usual/exim.sql the others.
-- Format: exim, the main log of Exim
-- Version: 2
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
WITH unusual AS (
  -- The usual line begins with Exim's own time and a message id right behind it.
  SELECT line, text FROM lines WHERE NOT text LIKE '____-_____ ________ ______-%'
),
own AS (
  SELECT line, text, 1 AS said, NULL::BIGINT AS start, NULL::BIGINT AS colon, NULL::BIGINT AS given_us, true AS timed
  FROM unusual
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
    FROM stamped_unlike('____-_____ ________ ______-%')
    WHERE NOT (substring(text, 5, 1) = '-' AND substring(text, 11, 1) = ' ')
      OR NOT (substring(text, 27, 1) = '-' OR NOT contains(substring(text, 21, 99), ' exim'))
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
  UNION ALL
  SELECT line, text, 1, NULL, NULL, NULL, true, 21 FROM lines WHERE text LIKE '____-_____ ________ ______-%'
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
  FROM (SELECT DISTINCT left(text, 19) AS mark FROM lines UNION SELECT DISTINCT substring(text, said, 19) FROM wrapped WHERE timed)
),
sorted AS MATERIALIZED (
  -- body: what follows the flag and its space.
  SELECT * EXCLUDE (class), id + width + 4 AS body, CASE WHEN at_us IS NULL AND class BETWEEN 1 AND 7 THEN 10 ELSE class END AS class
  FROM (
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
          ELSE CASE WHEN left(flag, 2) IN ('<=', '(=', '=>', '->', '>>', '==', '**') THEN 9 ELSE 0 END
        END
        WHEN regexp_matches(substring(text, said, 3), '^\[[2-9]') THEN 0
        WHEN regexp_matches(text, '\b\w{6}-\w{6}(?:\w{5})?-\w\w(?:\w\w)? (?:[<(]=|[=-]>|>>|==|\*\*) [^ ]') THEN 9
        WHEN contains(text, ' messages') AND regexp_matches(substring(text, start, colon - start), 'journal|syslog') THEN 8
        ELSE 0
      END AS class
    FROM flagged
    LEFT JOIN moment ON moment.mark = flagged.mark
  )
  WHERE class > 0
),
-- <= sender H=host [ip] P=esmtp S=123 id=a@b T="subject" from <sender> for a@b c@d
arrived AS (
  SELECT
    line, text, said, start, colon, id, width, at_us, class,
    'queued' AS kind,
    CASE
      WHEN quoted THEN regexp_extract(substring(text, body), '^"(?:[^"\\]|\\.)*"(?:@[^ ]*)?')
      WHEN word = '<>' THEN ''
      ELSE word
    END AS sender,
    CASE WHEN size_ > 0 THEN TRY_CAST(first_word(substring(text, size_ + 3, 18)) AS BIGINT) END AS size,
    CASE
      WHEN id_ = 0 THEN NULL
      WHEN substring(text, id_ + 4, 1) = '<' THEN left(named, position('>' IN named))
      ELSE concat('<', first_word(named), '>')
    END AS message_id,
    CASE
      WHEN subject_ > 0 THEN nullif(len(string_split(regexp_extract(text, '.*[">] for (.+)$', 1), ' ')), 0)
      WHEN for_ >= body THEN len(string_split(trim(substring(text, for_ + 6)), ' '))
    END AS nrcpt,
    CASE WHEN subject_ > 0 THEN regexp_extract(substring(text, subject_ + 3), '^"((?:[^"\\]|\\.)*)', 1) END AS subject
  FROM (
    SELECT
      *,
      substring(text, id_ + 4) AS named,
      spaced('for ', text, body) - 1 AS for_
    FROM (
      SELECT
        *,
        substring(text, body, 1) = '"' AS quoted,
        CASE
          WHEN substring(text, body, 1) = '"' THEN NULL
          WHEN contains(substring(text, body, 72), ' ') THEN left(substring(text, body, 72), position(' ' IN substring(text, body, 72)) - 1)
          ELSE first_word(substring(text, body))
        END AS word,
        spaced('S=', text, body) AS size_,
        spaced('id=', text, body) AS id_,
        spaced('T="', text, body) AS subject_
      FROM sorted
      WHERE class = 1
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
  -- told: where ends what is said before the reason of a failure or the reply to a success.
  SELECT
    *,
    CASE
      WHEN class = 2 THEN CASE WHEN reply_ > 0 THEN reply_ - 1 ELSE length(text) END
      WHEN class = 3 THEN place(' defer (', text, body) - 1
      WHEN starts_with(name, '"') OR contains(substring(text, body), ' DN="') THEN  -- colons in quotes
        body + length(regexp_extract(substring(text, body), '^(?:[^" :]+|: ?[^" ]|"(?:[^"\\]|\\.)*"| )*?: ')) - 3
      ELSE place(': ', text, body) - 1
    END AS told,
    mark = '=' AND contains(name, '@') AND ascii(name) NOT IN (34, 40, 47, 58, 62, 124) AS plain,  -- " ( / : > |
    name <> '' AND substring(text, body + length(name), 2) = ' <' AND ascii(name) NOT IN (34, 40, 62, 124) AND mark <> '"' AS topped
  FROM (
    SELECT
      *,
      substring(text, body + length(name) + 2, 1) AS mark,
      CASE WHEN class = 2 THEN spaced('C="', text, body) END AS reply_,
      spaced('H=', text, body) AS host_
    FROM (
      SELECT
        *,
        CASE
          WHEN contains(substring(text, body, 72), ' ') THEN left(substring(text, body, 72), position(' ' IN substring(text, body, 72)) - 1)
          ELSE first_word(substring(text, body))
        END AS name
      FROM sorted
      WHERE class BETWEEN 2 AND 4
    )
  )
),
named AS (
  SELECT
    * EXCLUDE (name),
    told < body AS untold,
    CASE WHEN NOT plain AND NOT topped THEN deep['name'] ELSE name END AS name,
    CASE
      WHEN plain THEN ''
      WHEN topped AND place('>', text, body) = 0 THEN concat(name, ' <')  -- cut short
      WHEN topped THEN substring(text, body + length(name) + 2, place('>', text, body) - body - length(name) - 2)
      ELSE deep['top']
    END AS top,
    CASE class
      WHEN 3 THEN substring(text, told + 9)
      WHEN 4 THEN substring(text, told + 3)
    END AS rest
  FROM (
    SELECT
      *,
      CASE
        WHEN NOT plain AND NOT topped THEN regexp_extract(
          substring(text, body),
          '^("(?:[^"\\]|\\.)*"(?:@[^ :]*)?|.*?)(?: \([^()]*\))?(?: <("(?:[^"\\]|\\.)*"(?:@[^>]*)?|[^>]*)>)?'
          '(?: (?:[FPRTQHSXC]|ST|DT|QT)=.*| (?:routing )?defer \(.*|: .*|:)?$',
          ['name', 'top']
        )
      END AS deep
    FROM addressed
  )
),
hosted AS (
  SELECT
    *,
    CASE
      WHEN via_ > 0 THEN substring(text, via_, told - via_ + 1)
      WHEN class = 2 THEN NULL
      WHEN class = 3 AND regexp_matches(rest, '^-?[0-9]+\)(?:: [A-Z][A-Za-z ]+)? H=') THEN substring(rest, position(' H=' IN rest) + 3)
      ELSE exim_host(rest)
    END AS via,
    CASE WHEN class > 2 THEN exim_reason(rest, told_why) END AS reason
  FROM (
    SELECT
      *,
      CASE WHEN class = 2 THEN spaced('QT=', text, body) ELSE 0 END AS waited,
      CASE WHEN host_ BETWEEN 1 AND told - 2 THEN host_ + 3 ELSE 0 END AS via_,
      CASE class WHEN 3 THEN trim(substring(rest, position(': ' IN rest) + 2)) WHEN 4 THEN trim(rest) END AS told_why
    FROM named
  )
),
tried AS (
  SELECT
    line, text, said, start, colon, id, width, at_us, class,
    CASE WHEN unread THEN 'rejected' ELSE 'attempt' END AS kind,
    CASE WHEN NOT unread THEN address END AS recipient,
    CASE WHEN NOT unread AND top <> address THEN top END AS orig_to,
    CASE
      WHEN unread THEN NULL
      WHEN open > 0 AND starts_with(via, '[') THEN lower(trim(left(via, open - 1), '[]'))
      WHEN open > 0 THEN lower(left(via, open - 1))
      WHEN class = 2 AND contains(substring(text, body, told - body + 1), ' T=')
        THEN regexp_extract(substring(text, body, told - body + 1), ' T=([^ ]*)', 1)
    END AS relay,
    CASE
      WHEN NOT (open > 0 AND close > open) OR unread THEN NULL
      WHEN via_ > 0 THEN substring(text, via_ + open + 1, close - open - 2)
      ELSE substring(via, open + 2, close - open - 2)
    END AS relay_ip,
    CASE
      WHEN close > 0 AND CASE WHEN via_ > 0 THEN close < length(via) AND substring(text, via_ + close, 1) = ':' ELSE substring(via, close + 1, 1) = ':' END AND NOT unread
        THEN TRY_CAST(regexp_extract(substring(via, close + 2, 6), '^[0-9]+') AS INTEGER)
    END AS relay_port,
    CASE
      WHEN unread THEN NULL
      WHEN class = 2 THEN 'sent'
      WHEN class = 3 THEN 'deferred'
      ELSE exim_failed(reason)
    END AS status,
    CASE
      WHEN unread THEN NULL
      WHEN class = 2 THEN reply_code(opening)
      ELSE exim_code(reason, told_reply)
    END AS code,
    CASE
      WHEN unread THEN NULL
      WHEN class > 2 THEN exim_enhanced(reason, told_reply)
      WHEN substring(text, told + 9, 6) LIKE '_._._ ' THEN substring(text, told + 9, 5)
    END AS enhanced,
    CASE WHEN NOT unread THEN units_us(took) END AS delay,
    CASE WHEN unread THEN 'not understood' ELSE nullif(reason, '') END AS reply,
    CASE WHEN class = 2 AND NOT unread THEN next_queue_id(accepted) END AS next_qid
  FROM (
    SELECT *, address = '' OR untold AS unread
    FROM (
      SELECT
        *,
        CASE WHEN class = 2 THEN substring(text, told + 5) END AS accepted,
        CASE WHEN class = 2 THEN substring(text, told + 5, 4) END AS opening,
        CASE WHEN waited > 0 THEN regexp_extract(substring(text, waited + 4, 24), '^[^ ]*') END AS took,
        CASE
          WHEN top = '' THEN name
          WHEN NOT contains(name, '@') OR ascii(name) IN (47, 58, 62, 124) THEN top
          WHEN starts_with(top, '"') AND replace(top, '"', '') = name THEN top  -- "a b"@c stands as a b@c
          ELSE name
        END AS address,
        position(' [' IN via) AS open,
        position(']' IN substring(via, position(' [' IN via) + 1)) + position(' [' IN via) AS close,
        CASE WHEN contains(reason, ': ') THEN substring(reason, position(': ' IN reason) + 2, 20) END AS told_reply
      FROM hosted
    )
  )
),
rare AS (
  SELECT
    line, text, said, start, colon, id, width, at_us, class,
    CASE class WHEN 5 THEN 'removed' WHEN 6 THEN CASE flag WHEN 'rem' THEN 'removed' ELSE 'expired' END WHEN 8 THEN 'loss' ELSE 'rejected' END
      AS kind,
    CASE WHEN class = 6 AND flag = 'rem' THEN 'deleted' WHEN class = 6 THEN 'expired' END AS status,
    CASE class WHEN 9 THEN CASE WHEN start IS NULL AND said <> 1 THEN 'no time stamp' ELSE 'not understood' END WHEN 10 THEN 'no such time' END
      AS reply
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
    WHEN said > 1 AND start < colon THEN first_word(substring(text, start, colon - start))
    ELSE ''
  END AS host,
  '' AS instance,
  CASE WHEN unread OR class = 8 THEN '' ELSE substring(text, id, width) END AS qid,
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
  reply,
  message_id,
  next_qid,
  size,
  nrcpt,
  CASE WHEN unread OR class = 8 THEN left(text, 2000) ELSE note END AS text
FROM (SELECT *, kind = 'rejected' AS unread FROM united)
CROSS JOIN params
