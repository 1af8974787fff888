-- Purpose: macros for records of CSV (RFC 4180). csv_fields(text): its fields, without their quotes; a record without
--   quotes is only split. csv_names(heading): the names of a heading, in lower case, as a list, to find a column's place
--   with list_position. field_text(text): NULL where a field is empty.
-- Parameters: none.
-- Columns: none.
-- Between quotes, the pieces with even places, commas are hidden; a piece of nothing between two of them was a doubled quote.
CREATE OR REPLACE TEMP MACRO csv_pieces(pieces) AS list_transform(
  string_split(
    array_to_string(list_transform(pieces, lambda piece, place:
      CASE
        WHEN place % 2 = 0 THEN replace(piece, ',', chr(1))
        WHEN piece = '' AND place > 1 AND place < len(pieces) THEN '"'
        ELSE piece
      END), ''),
    ','
  ),
  lambda field: replace(field, chr(1), ',')
);

CREATE OR REPLACE TEMP MACRO csv_fields(value) AS
  CASE WHEN contains(value, '"') THEN csv_pieces(string_split(value, '"')) ELSE string_split(value, ',') END;

CREATE OR REPLACE TEMP MACRO csv_names(heading) AS
  list_transform(csv_fields(heading), lambda name: lower(trim(name, ' ?')));

CREATE OR REPLACE TEMP MACRO field_text(value) AS nullif(trim(value), '');
