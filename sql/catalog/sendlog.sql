-- Purpose: judge the rows of a send log: typed values, and the first thing that is wrong ('' nothing).
-- Parameters: none. Reads raw, address_check(text, wire, rcpt_key, folded, problem), time_check(text, at, problem), macros.
-- Columns: n, problem, then those of the view `sendlog`; rcpt_key is '' where the row names the recipient by id only.
SELECT
  n,
  CASE
    WHEN trim(release) = '' THEN 'release is empty'
    WHEN trim(recipient) = '' AND trim(address) = '' THEN 'neither recipient nor address is given'
    WHEN unclean(trim(release)) OR unclean(trim(recipient)) THEN 'release or recipient holds a control character'
    WHEN coalesce(a.problem, '') <> '' THEN concat('address: ', a.problem)
    WHEN unclean(trim(message_id)) OR length(message_id) > 1000 THEN 'message_id holds a control character or is longer than 1000'
    WHEN coalesce(t.problem, '') <> '' THEN concat('sent_at: ', t.problem)
    WHEN unclean(trim(envelope)) OR length(envelope) > 320 THEN 'envelope holds a control character or is longer than 320'
    ELSE ''
  END AS problem,
  trim(release) AS release,
  trim(recipient) AS recipient,
  coalesce(a.wire, trim(address)) AS address,
  CASE WHEN trim(address) = '' THEN '' ELSE coalesce(a.rcpt_key, plain_key(trim(address))) END AS rcpt_key,
  trim(message_id) AS message_id,
  coalesce(plain_time(trim(sent_at)), t.at) AS sent_at,
  trim(envelope) AS envelope
FROM raw
LEFT JOIN address_check AS a ON a.text = trim(raw.address)
LEFT JOIN time_check AS t ON t.text = trim(raw.sent_at)
