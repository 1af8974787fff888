-- Purpose: the send log has this message-id for this address, or the id under which the service or the mail host took the
--   mail (what a sending API or the final 250 returned: SES messageId, SendGrid X-Message-Id, Postmark MessageID, a queue
--   id), if its message-id does not; or the message-id once only, for a recipient with another address, which settles
--   nothing.
-- Parameters: none. Reads open_outcome, sent.
-- Columns: outcome_id, release, recipient_id ('' where the send log names an address only), evidence.
WITH exact AS (
  SELECT DISTINCT
    o.outcome_id,
    s.release,
    s.recipient_id,
    concat(o.evidence, ' message-id ', o.message_id) AS evidence
  FROM open_outcome AS o
  JOIN sent AS s ON s.bare_id = o.bare_id AND s.address = o.address
),
accepted AS (
  SELECT DISTINCT
    o.outcome_id,
    s.release,
    s.recipient_id,
    concat(o.evidence, ' accepted as ', o.qid) AS evidence
  FROM open_outcome AS o
  JOIN sent AS s ON s.bare_id = o.qid AND s.address = o.address
  LEFT JOIN exact AS e ON e.outcome_id = o.outcome_id
  WHERE e.outcome_id IS NULL AND o.qid <> ''
),
single AS (
  SELECT bare_id, min(release) AS release, min(recipient_id) AS recipient_id
  FROM sent
  GROUP BY bare_id
  HAVING count(*) = 1
)
SELECT outcome_id, release, recipient_id, evidence FROM exact
UNION ALL
SELECT outcome_id, release, recipient_id, evidence FROM accepted
UNION ALL
SELECT
  o.outcome_id,
  s.release,
  s.recipient_id,
  concat(o.evidence, ' message-id ', o.message_id) AS evidence
FROM open_outcome AS o
JOIN single AS s ON s.bare_id = o.bare_id
LEFT JOIN exact AS e ON e.outcome_id = o.outcome_id
LEFT JOIN accepted AS a ON a.outcome_id = o.outcome_id
WHERE e.outcome_id IS NULL AND a.outcome_id IS NULL AND s.recipient_id <> ''
