-- Purpose: the first lines of some sources that should have been understood and were not.
-- Parameters: $1 list of source paths, $2 how many rows. Reads events, part_source.
-- Columns: file, line, reason, text.
SELECT
  part_source.file,
  part_source.first_line + events.line - 1 AS line,
  events.reply AS reason,
  events.text
FROM events
JOIN part_source USING (part)
WHERE events.kind = 'rejected' AND list_contains($1, part_source.path)
ORDER BY part_source.path, part_source.first_line + events.line
LIMIT $2
