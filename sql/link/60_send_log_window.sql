-- Purpose: the send log has a mail to this address in the minutes before the mail came into the queue, or, for what only a
--   bounce tells of, in the days before the bounce. Where both name an envelope sender, it is the same.
-- Confidence: probable
-- Parameters: send_window_us, bounce_window_us BIGINT (how long before), ahead_us BIGINT (how far clocks may differ). Reads
--   open_outcome, sendlog.
-- Columns: outcome_id, release, recipient_id, evidence.
SELECT DISTINCT
  o.outcome_id,
  s.release,
  s.recipient AS recipient_id,
  concat(o.evidence, ' send log, same address and time') AS evidence
FROM open_outcome AS o
CROSS JOIN params
JOIN sendlog AS s ON lower(s.rcpt_key) = o.address
WHERE s.sent_at <= o.arrived_at + params.ahead_us
  AND s.sent_at >= o.arrived_at - CASE WHEN o.host = 'bounce' THEN params.bounce_window_us ELSE params.send_window_us END
  AND (coalesce(s.envelope, '') = '' OR o.sender = '' OR lower(s.envelope) = lower(o.sender))
