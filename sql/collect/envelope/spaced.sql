-- Purpose: lines of a system log in which single spaces have become several, as pages and mails show what was pasted into
--   them, to those that syslog itself would write. The time keeps its spaces.
-- Format: spaced, a system log with more spaces than it was written with
-- Detect: \]: [0-9A-Za-z]{5,20}: (?: +(?:to|from|message-id|client|uid)=|to=<[^>]*>,  +(?:orig_to|relay)=|from=<[^>]*>,  +size=)
-- Facts: what Postfix writes has one space after a queue id and between its fields.
-- Parameters: none. Reads lines(line, text).
-- Columns: line, text.
SELECT line, concat(left(text, 16), regexp_replace(substring(text, 17), ' {2,}', ' ', 'g')) AS text
FROM lines
