-- Purpose: judge the rows of a recipients file: typed values, and the first thing that is wrong ('' nothing).
-- Parameters: none. Reads raw, address_check(text, wire, rcpt_key, folded, problem), time_check(text, at, problem), macros.
-- Columns: n, problem, then those of the view `recipient`.
SELECT
  n,
  CASE
    WHEN trim(id) = '' THEN 'id is empty'
    WHEN unclean(trim(id)) OR length(id) > 200 THEN 'id holds a control character or is longer than 200'
    WHEN trim(address) = '' THEN 'address is empty'
    WHEN coalesce(a.problem, '') <> '' THEN concat('address: ', a.problem)
    WHEN unclean(name) OR length(name) > 2000 THEN 'name holds a control character or is longer than 2000'
    WHEN unclean(locale) OR unclean(tz) OR length(locale) > 100 OR length(tz) > 100 THEN 'locale or tz is none'
    WHEN coalesce(t.problem, '') <> '' THEN concat('unsubscribed_at: ', t.problem)
    WHEN length(attrs) > 65536 THEN 'attributes are longer than 65,536 characters'
    WHEN contains(attrs, '\u0000') THEN 'an attribute holds NUL'
    ELSE ''
  END AS problem,
  trim(id) AS id,
  coalesce(a.wire, trim(address)) AS address,
  coalesce(a.rcpt_key, plain_key(trim(address))) AS rcpt_key,
  coalesce(a.folded, lower(trim(address))) AS folded,
  name,
  trim(locale) AS locale,
  trim(tz) AS tz,
  coalesce(plain_time(trim(unsubscribed_at)), t.at) AS unsubscribed_at,
  attrs
FROM raw
LEFT JOIN address_check AS a ON a.text = trim(raw.address)
LEFT JOIN time_check AS t ON t.text = trim(raw.unsubscribed_at)
