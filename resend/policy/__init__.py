"""Decisions without side effects: who a receiver is, why a mail failed, what to do with it, and what it is made of."""
