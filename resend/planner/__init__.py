"""Builds throttled batches per (egress, provider) from the mails to resend, and says how long they will take."""
