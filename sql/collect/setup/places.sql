-- Purpose: macros that find and cut words of log lines cheaply. place(mark, text, body): where the mark stands first in the
--   text from its place `body` on, 0 if nowhere: a mark is looked for in the whole line, as DuckDB then need not count
--   characters in a block of plain ASCII, and only where it stands too early once more. first_word(text): what stands
--   before the first space.
-- Parameters: none.
-- Columns: none.
CREATE OR REPLACE TEMP MACRO place(mark, value, body) AS
  CASE
    WHEN position(mark IN value) >= body THEN position(mark IN value)
    WHEN position(mark IN value) = 0 THEN 0
    WHEN contains(substring(value, body), mark) THEN position(mark IN substring(value, body)) + body - 1
    ELSE 0
  END;

CREATE OR REPLACE TEMP MACRO first_word(value) AS
  CASE WHEN contains(value, ' ') THEN left(value, position(' ' IN value) - 1) ELSE value END;
