-- Purpose: macros for records of CSV (RFC 4180). csv_fields(text): its fields, without their quotes; a record without
--   quotes is only split. csv_cut(text, pieces): the same, faster where there are quotes, but with chr(1) for a comma within
--   them; pieces, a column, is the text split at its quotes. csv_text(field), field_text(field) put the commas right, the
--   latter gives NULL where a field is empty. csv_names(heading): the names of a heading, in lower case, as a list, to find a
--   column's place with list_position.
-- Parameters: none.
-- Columns: none.
-- Between quotes, the pieces with even places, commas are hidden; a piece of nothing between two of them was a doubled quote.
-- The function of a list names nothing but its element: whatever else it named would be made anew for each of them.
CREATE OR REPLACE TEMP MACRO csv_hidden(pieces) AS
  CASE
    WHEN len(pieces) = 3 THEN concat(pieces[1], replace(pieces[2], ',', chr(1)), pieces[3])  -- one field in quotes
    ELSE concat(
      pieces[1],
      array_to_string(list_transform(pieces[2:len(pieces) - 1], lambda piece, place:
        CASE WHEN place % 2 = 1 THEN replace(piece, ',', chr(1)) WHEN piece = '' THEN '"' ELSE piece END), ''),
      CASE WHEN len(pieces) % 2 = 0 THEN replace(pieces[len(pieces)], ',', chr(1)) ELSE pieces[len(pieces)] END  -- even: left open
    )
  END;

CREATE OR REPLACE TEMP MACRO csv_cut(value, pieces) AS
  string_split(CASE WHEN len(pieces) = 1 THEN value ELSE csv_hidden(pieces) END, ',');

CREATE OR REPLACE TEMP MACRO csv_text(value) AS
  CASE WHEN contains(value, chr(1)) THEN replace(value, chr(1), ',') ELSE value END;

CREATE OR REPLACE TEMP MACRO csv_fields(value) AS
  CASE WHEN contains(value, '"') THEN list_transform(csv_cut(value, string_split(value, '"')), lambda field: csv_text(field)) ELSE string_split(value, ',') END;

CREATE OR REPLACE TEMP MACRO csv_names(heading) AS
  list_transform(csv_fields(heading), lambda name: lower(trim(name, ' ?')));

CREATE OR REPLACE TEMP MACRO field_text(value) AS
  nullif(CASE WHEN left(value, 1) = ' ' OR suffix(value, ' ') THEN trim(csv_text(value)) ELSE csv_text(value) END, '');
