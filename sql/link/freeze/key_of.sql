-- Purpose: how vetoes name each affected mail: the key of the Delivery that stands and of the one that a plan would make
--   (model.delivery_key), and its address case-folded. For DuckDB (sha256).
-- Parameters: none. Reads standing, odd_fold(rcpt, folded).
-- Columns: outcome_id, key, standing_key ('' none), folded, generation (the next), state ('' none), fate ('' none).
SELECT
  s.outcome_id,
  sha256(concat(s.release, chr(10), s.rcpt_key, chr(10), s.generation + 1)) AS key,
  CASE WHEN s.generation = 0 THEN '' ELSE sha256(concat(s.release, chr(10), s.rcpt_key, chr(10), s.generation)) END
    AS standing_key,
  coalesce(o.folded, lower(s.rcpt)) AS folded,
  s.generation + 1 AS generation,
  s.state,
  s.fate
FROM standing AS s
LEFT JOIN odd_fold AS o ON o.rcpt = s.rcpt
