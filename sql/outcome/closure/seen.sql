-- Purpose: the events of the queue ids in `fresh`: read once, for all that follows.
-- Parameters: none. Reads events, fresh(host, qid).
-- Columns: those of events.
SELECT events.*
FROM events
JOIN fresh ON fresh.host = events.host AND fresh.qid = events.qid
