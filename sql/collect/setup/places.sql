-- Purpose: macros that find and cut words of log lines cheaply. place(mark, text, body): where the mark stands first in the
--   text from its place `body` on, 0 if nowhere: a mark is looked for in the whole line, as DuckDB then need not count
--   characters in a block of plain ASCII, and only where it stands too early once more. spaced(mark, text, body): the
--   same of a mark behind a space, which is found slowly, as spaces are many: the place of the space. first_word(text): what
--   stands before the first space.
-- Each use of an argument is planned anew, which costs more than a block's lines do: arguments are columns.
-- Parameters: none.
-- Columns: none.
CREATE OR REPLACE TEMP MACRO place(mark, value, body) AS
  CASE
    WHEN position(mark IN value) BETWEEN 1 AND body - 1
      THEN coalesce(nullif(position(mark IN substring(value, body)), 0) + body - 1, 0)
    ELSE position(mark IN value)
  END;

CREATE OR REPLACE TEMP MACRO spaced(mark, value, body) AS
  CASE
    WHEN position(mark IN value) > body AND substring(value, position(mark IN value) - 1, 1) = ' '
      THEN position(mark IN value) - 1
    ELSE coalesce(nullif(position(concat(' ', mark) IN substring(value, body)), 0) + body - 1, 0)
  END;

CREATE OR REPLACE TEMP MACRO first_word(value) AS
  CASE WHEN contains(value, ' ') THEN left(value, position(' ' IN value) - 1) ELSE value END;
