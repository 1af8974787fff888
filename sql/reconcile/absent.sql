-- Purpose: tries without an answer that the relay's log proves were not accepted. It is known to be that relay's log (mail
--   that it took is in there, or the configuration says so), begins before the arm, goes on for 15 minutes, has no gap
--   there, lacks no mail that the relay did accept, and never names the Message-ID in that time.
-- Parameters: none. Reads own_try, found (of fate.sql), relay_log(egress, host), events, loss_window.
-- Columns: try_id, key, checked_to (microseconds: the end of the log that was read).
WITH span AS (
  SELECT host, min(at_us) AS first_at, max(at_us) AS last_at
  FROM events
  WHERE kind <> 'rejected' AND host <> ''
  GROUP BY host
),
heard AS (
  SELECT egress, host FROM found
  UNION
  SELECT egress, host FROM relay_log
),
covered AS (
  SELECT
    own_try.try_id,
    min(CASE
      WHEN span.first_at <= own_try.armed_us AND span.last_at >= own_try.armed_us + 900000000 THEN 1
      ELSE 0
    END) AS whole,
    min(span.last_at) AS checked_to
  FROM own_try
  JOIN heard ON heard.egress = own_try.egress
  JOIN span ON span.host = heard.host
  WHERE own_try.remote_qid = ''
  GROUP BY own_try.try_id
),
named AS (
  SELECT DISTINCT own_try.try_id
  FROM own_try
  JOIN events ON events.message_id = own_try.message_id
  WHERE events.kind = 'message'
    AND own_try.remote_qid = ''
    AND events.at_us BETWEEN own_try.armed_us - 60000000 AND own_try.armed_us + 900000000
),
dark AS (
  SELECT DISTINCT own_try.try_id
  FROM own_try
  JOIN heard ON heard.egress = own_try.egress
  JOIN loss_window ON loss_window.host IN (heard.host, '')
  WHERE loss_window.from_at <= own_try.armed_us + 900000000 AND loss_window.to_at >= own_try.armed_us - 60000000
),
lacking AS (
  -- accepted, and not in the log though it should be: the egress has another host, or lines are missing
  SELECT DISTINCT own_try.egress
  FROM own_try
  JOIN heard ON heard.egress = own_try.egress
  JOIN span ON span.host = heard.host
  LEFT JOIN found ON found.try_id = own_try.try_id
  WHERE own_try.remote_qid <> ''
    AND found.try_id IS NULL
    AND own_try.armed_us BETWEEN span.first_at AND span.last_at - 900000000
)
SELECT own_try.try_id, own_try.key, covered.checked_to
FROM own_try
JOIN covered ON covered.try_id = own_try.try_id AND covered.whole = 1
LEFT JOIN named ON named.try_id = own_try.try_id
LEFT JOIN dark ON dark.try_id = own_try.try_id
LEFT JOIN lacking ON lacking.egress = own_try.egress
WHERE own_try.remote_qid = ''
  AND named.try_id IS NULL
  AND dark.try_id IS NULL
  AND lacking.egress IS NULL
