-- Purpose: tries without an answer that the relay's log proves were not accepted: the log goes on for 15 minutes after
--   the arm, begins before it, has no gap about it, and never names the Message-ID in that time.
-- Parameters: none. Reads own_try, events, loss_window.
-- Columns: try_id, key, checked_to (microseconds: the end of the log that was read).
WITH span AS (
  SELECT min(at_us) AS first_at, max(at_us) AS last_at FROM events WHERE kind <> 'rejected'
),
named AS (
  SELECT DISTINCT own_try.try_id
  FROM own_try
  JOIN events ON events.message_id = own_try.message_id
  WHERE events.kind = 'message'
    AND events.at_us >= own_try.armed_us - 60000000
    AND events.at_us <= own_try.armed_us + 900000000
),
dark AS (
  SELECT DISTINCT own_try.try_id
  FROM own_try
  JOIN loss_window
    ON loss_window.from_at <= own_try.armed_us + 900000000 AND loss_window.to_at >= own_try.armed_us - 60000000
)
SELECT own_try.try_id, own_try.key, span.last_at AS checked_to
FROM own_try
CROSS JOIN span
LEFT JOIN named ON named.try_id = own_try.try_id
LEFT JOIN dark ON dark.try_id = own_try.try_id
WHERE own_try.remote_qid = ''
  AND named.try_id IS NULL
  AND dark.try_id IS NULL
  AND span.first_at <= own_try.armed_us
  AND span.last_at >= own_try.armed_us + 900000000
