-- Purpose: queue ids in a relay's log where tries of ours may be: by the queue id that the relay named, else by Message-ID.
-- Parameters: none. Reads events, own_try(try_id, key, egress, remote_qid, message_id, recipient, armed_us, ended_us).
-- Columns: host, qid.
SELECT DISTINCT events.host, events.qid
FROM events
JOIN own_try ON own_try.remote_qid = events.qid
WHERE own_try.remote_qid <> '' AND events.kind IN ('begin', 'message', 'queued', 'attempt')
UNION
SELECT DISTINCT events.host, events.qid
FROM events
JOIN own_try ON own_try.message_id = events.message_id
WHERE events.kind = 'message'
  AND own_try.remote_qid = ''
  AND events.at_us BETWEEN own_try.armed_us - 60000000 AND own_try.armed_us + 900000000
