-- Purpose: queue ids that say something in a stretch of time. What belongs to them before and after is found from there.
-- Parameters: none. Reads events, stretch(from_us, to_us: microseconds).
-- Columns: host, qid.
SELECT DISTINCT events.host, events.qid
FROM events
CROSS JOIN stretch
WHERE events.qid <> '' AND events.at_us BETWEEN stretch.from_us AND stretch.to_us
