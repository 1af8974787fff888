-- Purpose: judge the rows of a suppression list: typed values, and the first thing that is wrong ('' nothing).
-- Parameters: none. Reads raw, address_check(text, wire, rcpt_key, folded, problem), time_check(text, at, problem), macros.
-- Columns: n, problem, then those of the view `suppression`; scope '' counts for all, else customer:ID or release:ID.
SELECT
  n,
  CASE
    WHEN trim(address) = '' THEN 'address is empty'
    WHEN coalesce(a.problem, '') <> '' THEN concat('address: ', a.problem)
    WHEN trim(reason) = '' THEN 'reason is empty'
    WHEN unclean(reason) OR length(reason) > 2000 THEN 'reason holds a control character or is longer than 2000'
    WHEN coalesce(t.problem, '') <> '' THEN concat('at: ', t.problem)
    WHEN trim(scope) NOT IN ('', 'all') AND NOT regexp_full_match(trim(scope), '(customer|release):[^\x00-\x1f\x7f]+')
      THEN 'scope is none of all, customer:ID, release:ID'
    ELSE ''
  END AS problem,
  trim(address) AS address,
  coalesce(a.folded, lower(trim(address))) AS folded,
  trim(reason) AS reason,
  coalesce(plain_time(trim(raw."at")), t."at") AS at,
  CASE WHEN trim(scope) = 'all' THEN '' ELSE trim(scope) END AS scope
FROM raw
LEFT JOIN address_check AS a ON a.text = trim(raw.address)
LEFT JOIN time_check AS t ON t.text = trim(raw."at")
