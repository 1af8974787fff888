-- Purpose: lines of a system log that begin in a way of their own (a level for the host, brackets, dates with dots or
--   slashes, numbers of lines, columns of an export, a name of a container or the host before the time, no program at
--   all) to those that syslog itself would write. What is looked for is the program with its number, else a queue id
--   with what Postfix says of it; before it the nearest time, and the first word between both that may be a host. Quotes
--   around it and the entities of a page's source are taken off. A line without either stays as it is. It is the last
--   resort: read so is only what is known in no other way.
-- Format: unusual, a system log whose lines begin in a way of their own
-- Detect: (?:^|[^\w./-])(?:[\w.-]+/)*[A-Za-z][\w.-]*\[\d+\]:\s
-- Detect: (?:^|[\s",|;:\]])[0-9A-Za-z]{5,30}: (?:to=<|from=<|client=|(?:resent-)?message-id=|removed|uid=\d)
-- Facts: dates as `date`, `logread`, syslog-ng's templates, Kibana, Graylog and Papertrail write them; levels and facilities
--   of syslog(3).
-- Parameters: host VARCHAR ('' unknown). Reads lines(line, text).
-- Columns: line, text.
WITH plain AS (
  SELECT
    line,
    CASE  -- a page's source
      WHEN contains(text, '&lt;') THEN replace(replace(replace(replace(text, '&lt;', '<'), '&gt;', '>'), '&quot;', '"'), '&amp;', '&')
      ELSE text
    END AS text
  FROM lines
),
cut AS (
  SELECT
    line,
    text,
    CASE WHEN said['message'] <> '' THEN said['head'] ELSE named['head'] END AS head,
    CASE WHEN said['message'] <> '' THEN said['message'] ELSE named['message'] END AS message
  FROM (
    SELECT
      line,
      text,
      regexp_extract(
        text,
        '^(.*?[ \t",|;:\]])([0-9A-Za-z]{5,30}: (?:to=|from=|client=|(?:resent-)?message-id=|removed|uid=[0-9]|sender |postmaster |'
        'info: header |warning: header ).*)$',
        ['head', 'message']
      ) AS said,
      regexp_extract(
        text,
        '^((?:.*?[^A-Za-z0-9_./-])?(?:[A-Za-z0-9_.-]+/)*[A-Za-z][A-Za-z0-9_.-]*(?:\[[0-9]+\])?:)[ \t]+(.*)$',
        ['head', 'message']
      ) AS named
    FROM plain
  )
),
programmed AS (
  SELECT
    line,
    text,
    message,
    coalesce(
      nullif(regexp_extract(
        head, '((?:[A-Za-z0-9_.-]+/)+[A-Za-z0-9_-]+(?:\[[0-9]+\])?|[A-Za-z][A-Za-z0-9_.-]*\[[0-9]+\])[ \t",|;:]*$', 1
      ), ''),
      'postfix'
    ) AS program,
    regexp_replace(
      head, '((?:[A-Za-z0-9_.-]+/)+[A-Za-z0-9_-]+(?:\[[0-9]+\])?|[A-Za-z][A-Za-z0-9_.-]*\[[0-9]+\])[ \t",|;:]*$', ''
    ) AS head
  FROM cut
),
-- Of each kind of time the last one; `rest` is what follows it.
timed AS (
  SELECT
    *,
    regexp_extract(
      head,
      '^(?:.*[^0-9A-Za-z])?([0-9]{4})[-/.]([0-9]{2})[-/.]([0-9]{2})(?:[T_ ]|, | @ )+([0-9]{2}:[0-9]{2}:[0-9]{2})'
      '(?:[.,]([0-9]+))? ?(Z|UTC|GMT|[+-][0-9]{2}:?[0-9]{2})?((?:[^0-9A-Za-z:].*)?)$',
      ['year', 'month', 'day', 'clock', 'fraction', 'zone', 'rest']
    ) AS numbers,
    regexp_extract(
      head,
      '^(?:.*[^0-9A-Za-z])?([A-Z][a-z]{2})[a-z]*[ .]+([0-9]{1,2})(?:,? ((?:19|20)[0-9]{2}))?(?: @|,)? +([0-9]{2}:[0-9]{2}:[0-9]{2})'
      '(?:[.,]([0-9]+))?(?: ((?:19|20)[0-9]{2}))?((?:[^0-9A-Za-z:].*)?)$',
      ['month', 'day', 'before', 'clock', 'fraction', 'behind', 'rest']
    ) AS words,
    regexp_extract(
      head,
      '^(?:.*[^0-9A-Za-z])?([0-9]{1,2})[-/ ]([A-Z][a-z]{2})(?:[-/ ]((?:19|20)[0-9]{2}))?[: T]([0-9]{2}:[0-9]{2}:[0-9]{2})'
      '(?:[.,]([0-9]+))? ?(Z|UTC|GMT|[+-][0-9]{2}:?[0-9]{2})?((?:[^0-9A-Za-z:].*)?)$',
      ['day', 'month', 'year', 'clock', 'fraction', 'zone', 'rest']
    ) AS day_first,
    regexp_extract(
      head,
      '^(?:.*[^0-9A-Za-z.:+-])?(1[0-9]{9})(?:[.]([0-9]+)|([0-9]{3}))?((?:[^0-9A-Za-z:].*)?)$',
      ['seconds', 'fraction', 'milli', 'rest']
    ) AS since
  FROM programmed
),
named AS (
  SELECT
    *,
    coalesce(position(concat(nullif(lower(words['month']), ''), ' ') IN 'jan feb mar apr may jun jul aug sep oct nov dec ') + 3, 0)
      // 4 AS word_month,
    coalesce(position(concat(nullif(lower(day_first['month']), ''), ' ') IN 'jan feb mar apr may jun jul aug sep oct nov dec ') + 3, 0)
      // 4 AS day_month,
    concat(words['before'], words['behind']) AS word_year
  FROM timed
),
chosen AS (
  SELECT
    *,
    list_min([  -- NULL where there is no such time: the shortest rest is that of the last time
      CASE WHEN numbers['clock'] <> '' THEN length(numbers['rest']) END,
      CASE WHEN words['clock'] <> '' AND word_month > 0 THEN length(words['rest']) END,
      CASE WHEN day_first['clock'] <> '' AND day_month > 0 THEN length(day_first['rest']) END,
      CASE WHEN since['seconds'] <> '' THEN length(since['rest']) END
    ]) AS left_over
  FROM named
),
stamped AS (
  SELECT
    line,
    text,
    message,
    program,
    right(head, left_over) AS rest,
    CASE
      WHEN numbers['clock'] <> '' AND length(numbers['rest']) = left_over THEN concat(
        numbers['year'], '-', numbers['month'], '-', numbers['day'], 'T', numbers['clock'],
        CASE WHEN numbers['fraction'] <> '' THEN concat('.', left(numbers['fraction'], 6)) END,
        CASE WHEN numbers['zone'] IN ('UTC', 'GMT') THEN 'Z' ELSE numbers['zone'] END
      )
      WHEN day_first['clock'] <> '' AND day_month > 0 AND length(day_first['rest']) = left_over THEN concat(
        CASE
          WHEN day_first['year'] <> ''
            THEN concat(day_first['year'], printf('-%02d-%02dT', day_month, TRY_CAST(day_first['day'] AS INTEGER)))
          ELSE concat(day_first['month'], ' ', lpad(day_first['day'], 2, ' '), ' ')
        END,
        day_first['clock'],
        CASE WHEN day_first['fraction'] <> '' THEN concat('.', left(day_first['fraction'], 6)) END,
        CASE WHEN day_first['year'] = '' THEN '' WHEN day_first['zone'] IN ('UTC', 'GMT') THEN 'Z' ELSE day_first['zone'] END
      )
      WHEN words['clock'] <> '' AND word_month > 0 AND length(words['rest']) = left_over THEN concat(
        CASE
          WHEN word_year <> ''
            THEN concat(word_year, printf('-%02d-%02dT', word_month, TRY_CAST(words['day'] AS INTEGER)))
          ELSE concat(words['month'], ' ', lpad(words['day'], 2, ' '), ' ')
        END,
        words['clock'],
        CASE WHEN words['fraction'] <> '' THEN concat('.', left(words['fraction'], 6)) END
      )
      WHEN since['seconds'] <> ''
        THEN concat(since['seconds'], '.', coalesce(nullif(concat(left(since['fraction'], 6), since['milli']), ''), '0'))
    END AS time
  FROM chosen
),
placed AS (
  SELECT
    *,
    CASE  -- the mark that the message is between
      WHEN contains(left(text, length(text) - length(message)), regexp_extract(message, '(["'']),?[ ]*$', 1))
        THEN regexp_extract(message, '(["'']),?[ ]*$', 1)
      ELSE ''
    END AS quoted,
    list_filter(
      regexp_extract_all(rest, '[0-9A-Za-z][0-9A-Za-z_.:-]*'),
      lambda word: NOT regexp_matches(
        word,
        '^(?:(?i:(?:mail|daemon|user|syslog|local[0-7])(?:[.:][a-z]+)?|info|notice|warn|warning|err|error|debug|crit|alert|emerg)|'
        '[0-9]+|[0-9][0-9T:.+-]*:[0-9T:.+-]*Z?)$'
      )
    )[1] AS host
  FROM stamped
)
SELECT
  line,
  CASE
    WHEN time IS NULL OR message = '' THEN text
    ELSE concat(
      time, ' ', rtrim(coalesce(host, nullif((SELECT host FROM params), ''), 'localhost'), ':.-'), ' ', program, ': ',
      CASE  -- a field of a CSV file, a text of a program
        WHEN quoted <> '' THEN replace(regexp_replace(rtrim(message), concat(quoted, ',?$'), ''), repeat(quoted, 2), quoted)
        ELSE rtrim(message)
      END
    )
  END AS text
FROM placed
