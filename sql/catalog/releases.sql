-- Purpose: judge the rows of a releases file: typed values, and the first thing that is wrong ('' nothing).
-- Parameters: none. Reads raw, address_check(text, wire, rcpt_key, folded, problem), time_check(text, at, problem), macros.
-- Columns: n, problem, then those of the view `release`.
WITH sized AS (
  SELECT
    raw.*,
    coalesce(plain_time(trim(raw.sent_at)), t1.at) AS sent_us,
    coalesce(plain_time(trim(raw.embargo_at)), t2.at) AS embargo_us,
    coalesce(plain_time(trim(raw.expires_at)), t3.at) AS expires_us,
    coalesce(t1.problem, '') AS sent_problem,
    coalesce(t2.problem, '') AS embargo_problem,
    coalesce(t3.problem, '') AS expires_problem,
    coalesce(a1.problem, '') AS sender_problem,
    coalesce(a2.problem, '') AS envelope_problem,
    CASE WHEN trim(raw.urgency) = '' THEN 5
      WHEN regexp_full_match(trim(raw.urgency), '[0-9]') THEN CAST(trim(raw.urgency) AS INTEGER)
    END AS urgency_level
  FROM raw
  LEFT JOIN time_check AS t1 ON t1.text = trim(raw.sent_at)
  LEFT JOIN time_check AS t2 ON t2.text = trim(raw.embargo_at)
  LEFT JOIN time_check AS t3 ON t3.text = trim(raw.expires_at)
  LEFT JOIN address_check AS a1 ON a1.text = trim(raw.sender)
  LEFT JOIN address_check AS a2 ON a2.text = trim(raw.envelope_from)
)
SELECT
  n,
  CASE
    WHEN trim(id) = '' THEN 'id is empty'
    WHEN unclean(trim(id)) OR length(id) > 200 THEN 'id holds a control character or is longer than 200'
    WHEN trim(customer) = '' THEN 'customer is empty'
    WHEN trim(title) = '' THEN 'title is empty'
    WHEN trim(sender) = '' THEN 'sender is empty'
    WHEN unclean(trim(customer)) THEN 'customer holds a line break or another control character'
    WHEN unclean(customer_name) THEN 'customer_name holds a line break or another control character'
    WHEN unclean(title) THEN 'title holds a line break or another control character'
    WHEN length(title) > 2000 OR length(customer) > 200 OR length(customer_name) > 2000 THEN 'title, customer or customer_name is too long'
    WHEN sender_problem <> '' THEN concat('sender: ', sender_problem)
    WHEN envelope_problem <> '' THEN concat('envelope_from: ', envelope_problem)
    WHEN sent_problem <> '' THEN concat('sent_at: ', sent_problem)
    WHEN embargo_problem <> '' THEN concat('embargo_at: ', embargo_problem)
    WHEN expires_problem <> '' THEN concat('expires_at: ', expires_problem)
    WHEN trim(lower(withdrawn)) NOT IN ('', '0', '1', 'true', 'false') THEN 'withdrawn is neither 0 nor 1'
    WHEN urgency_level IS NULL THEN 'urgency is not a number from 0 to 9'
    WHEN bad_file(trim(content)) THEN 'content is not a file name inside the content directory'
    WHEN bad_file(trim(template)) THEN 'template is not a file name inside the content directory'
    ELSE ''
  END AS problem,
  trim(id) AS id,
  trim(customer) AS customer,
  customer_name,
  title,
  trim(sender) AS sender,
  trim(envelope_from) AS envelope_from,
  sent_us AS sent_at,
  embargo_us AS embargo_at,
  expires_us AS expires_at,
  trim(lower(withdrawn)) IN ('1', 'true') AS withdrawn,
  urgency_level AS urgency,
  trim(content) AS content,
  trim(template) AS template
FROM sized
