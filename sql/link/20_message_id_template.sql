-- Purpose: the message-id names release and recipient, as `[link] message_id` says.
-- Parameters: none. Reads open_outcome, reading.
-- Columns: outcome_id, release, recipient_id, evidence.
SELECT o.outcome_id, r.release, r.recipient_id, r.evidence
FROM open_outcome AS o
JOIN reading AS r ON r.outcome_id = o.outcome_id
WHERE r.source = 'message-id'
