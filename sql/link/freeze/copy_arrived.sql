-- Purpose: of the other mails that the send log names those that arrived. Resends of ours are none.
-- Parameters: none. Reads suspect, suspect_key(outcome_id, rcpt_key), named(release, rcpt_key, bare_id),
--   own_resend(qid).
-- Columns: release, rcpt_key, late (0: one of them was in time).
WITH arrived AS (
  SELECT
    CASE WHEN substring(s.message_id, 1, 1) = '<' THEN split_part(substring(s.message_id, 2), '>', 1) ELSE s.message_id END
      AS bare_id,
    s.qid,
    lower(k.rcpt_key) AS address,
    CASE WHEN s.status = 'delivered' THEN 0 ELSE 1 END AS late
  FROM suspect AS s
  JOIN suspect_key AS k ON k.outcome_id = s.outcome_id
  LEFT JOIN own_resend AS ours ON ours.qid = s.qid
  WHERE s.status IN ('delivered', 'delivered_late') AND ours.qid IS NULL
)
SELECT n.release, n.rcpt_key, min(a.late) AS late
FROM named AS n
JOIN arrived AS a ON a.address = lower(n.rcpt_key) AND n.bare_id IN (a.bare_id, a.qid)
GROUP BY n.release, n.rcpt_key
