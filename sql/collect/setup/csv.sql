-- Purpose: macros for records of CSV (RFC 4180). csv_fields(text): its fields, without their quotes; a record without
--   quotes is only split. csv_names(heading): the names of a heading, in lower case, as a list, to find a column's place
--   with list_position. field_text(text): NULL where a field is empty.
-- Parameters: none.
-- Columns: none.
CREATE OR REPLACE TEMP MACRO csv_fields(value) AS
  CASE
    WHEN NOT contains(value, '"') THEN string_split(value, ',')
    ELSE list_transform(
      regexp_extract_all(concat(',', value), ',("(?:[^"]|"")*"|[^,]*)', 1),
      lambda field: CASE
        WHEN starts_with(field, '"') AND suffix(field, '"') AND length(field) > 1
          THEN replace(substring(field, 2, length(field) - 2), '""', '"')
        ELSE field
      END
    )
  END;

CREATE OR REPLACE TEMP MACRO csv_names(heading) AS
  list_transform(csv_fields(heading), lambda name: lower(trim(name, ' ?')));

CREATE OR REPLACE TEMP MACRO field_text(value) AS nullif(trim(value), '');
