-- Purpose: send log rows of releases that the catalog does not have.
-- Parameters: none.
-- Columns: count, example, text.
SELECT count(*), min(s.release), 'send log rows name a release that is not in the catalog'
FROM sendlog_row AS s
ANTI JOIN release AS r ON r.id = s.release
