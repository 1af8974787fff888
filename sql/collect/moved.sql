-- Purpose: lines that were read without long runs of blank ones get their numbers in the block back.
-- Parameters: none. Reads lines(line, text), moved(line, by): from this line as it was read, so many were left out.
-- Columns: makes lines(line, text) anew.
CREATE OR REPLACE TEMP TABLE lines AS
SELECT (lines.line + coalesce(moved."by", 0))::UINTEGER AS line, lines.text
FROM lines
ASOF LEFT JOIN moved ON lines.line >= moved.line
ORDER BY lines.line
