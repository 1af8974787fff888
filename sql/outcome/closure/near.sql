-- Purpose: queue ids one hop before or after those in `near`, so that a chain is seen whole; run until nothing is new.
-- Parameters: none. Reads hop, near(host, qid).
-- Columns: host, qid.
WITH found AS (
  SELECT hop.host, hop.qid
  FROM hop
  JOIN near ON near.qid = hop.next_qid AND (near.host = hop.next_host OR hop.next_host = '')
  UNION ALL
  SELECT after.host, after.qid
  FROM near
  JOIN hop ON hop.qid = near.qid AND hop.host = near.host
  JOIN (SELECT DISTINCT host, qid FROM events WHERE kind IN ('begin', 'message', 'queued', 'requeue')) AS after
    ON after.qid = hop.next_qid AND (after.host = hop.next_host OR hop.next_host = '')
)
SELECT DISTINCT found.host, found.qid
FROM found
LEFT JOIN near ON near.host = found.host AND near.qid = found.qid
WHERE near.qid IS NULL
