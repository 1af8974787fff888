-- Purpose: the outcomes to link, with the keys that the rules join on: message-id without brackets and what follows them.
-- Parameters: none. Reads suspect (linker/outcomes) and suspect_key(outcome_id, rcpt_key).
-- Columns: outcome_id, message_id, bare_id, sender, rcpt_key, address (rcpt_key in lower case), header_value, subject, evidence,
--   host, instance, qid, epoch, arrived_at.
SELECT
  s.outcome_id,
  s.message_id,
  CASE WHEN substring(s.message_id, 1, 1) = '<' THEN split_part(substring(s.message_id, 2), '>', 1) ELSE s.message_id END
    AS bare_id,
  s.sender,
  k.rcpt_key,
  lower(k.rcpt_key) AS address,
  s.header_value,
  s.subject,
  s.evidence,
  s.host,
  s.instance,
  s.qid,
  s.epoch,
  s.arrived_at
FROM suspect AS s
JOIN suspect_key AS k ON k.outcome_id = s.outcome_id
