-- Purpose: macros for lines of JSON. listed(text): the line as a JSON list, whether it is a list or a single value.
--   unfit(text): why a line is no JSON. listed_in(text, key): the list under that key where the line is an object that has
--   one, else the line as a list. form_field(text, name): a field of a posted form (`a=b&c=d`), NULL where it has none.
--   first_of(text): the first element where the text is a JSON list (a form that names a field twice). Nothing here raises
--   for bad text.
-- Parameters: none.
-- Columns: none.
CREATE OR REPLACE TEMP MACRO listed(value) AS
  CASE
    WHEN left(value, 1) = '{' THEN concat('[', value, ']')
    WHEN starts_with(ltrim(value), '[') THEN value
    ELSE concat('[', value, ']')
  END;

CREATE OR REPLACE TEMP MACRO listed_in(value, key) AS
  CASE
    WHEN contains(value, concat(key, '"')) THEN coalesce(
      TRY(CASE WHEN json_type(value, concat('$.', key)) = 'ARRAY' THEN json_extract(value, concat('$.', key))::VARCHAR END),
      listed(value)
    )
    ELSE listed(value)
  END;

CREATE OR REPLACE TEMP MACRO unfit(value) AS
  CASE WHEN left(ltrim(value), 1) IN ('{', '[') THEN 'not valid JSON, or cut short' ELSE 'not JSON' END;

CREATE OR REPLACE TEMP MACRO form_text(value) AS coalesce(TRY(url_decode(replace(value, '+', ' '))), value);

CREATE OR REPLACE TEMP MACRO form_field(value, name) AS
  form_text(nullif(regexp_extract(value, concat('(?:^|&)', name, '=([^&]*)'), 1), ''));

CREATE OR REPLACE TEMP MACRO first_of(value) AS
  CASE WHEN starts_with(value, '[') THEN coalesce(TRY(value ->> '$[0]'), value) ELSE value END;
