-- Purpose: addresses that turned out to be ours: mail handed to them came in at a collected host under the queue id that
--   they named.
-- Parameters: none. Reads step.
-- Columns: address.
SELECT DISTINCT relay_ip AS address FROM step WHERE relay_ip <> ''
