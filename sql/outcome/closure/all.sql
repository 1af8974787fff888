-- Purpose: all queue ids of the evidence.
-- Parameters: none. Reads events.
-- Columns: host, qid.
SELECT DISTINCT host, qid FROM events WHERE qid <> ''
