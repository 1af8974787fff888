-- Purpose: recipients who called a mail of ours spam, or asked by the service's own way to get no more: nothing is resent
--   to them.
-- Parameters: none. Reads events, part_source(part, file, first_line).
-- Columns: recipient (as the report names it), evidence.
SELECT
  events.recipient,
  min(concat(part_source.file, ':', CAST(part_source.first_line + events.line - 1 AS VARCHAR))) AS evidence
FROM events
LEFT JOIN part_source ON part_source.part = events.part
WHERE events.kind = 'complaint' AND events.recipient <> ''
GROUP BY events.recipient
