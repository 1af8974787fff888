"""Reads mails that report a failure (bounces, delay warnings, complaints): bytes in (read.py), records out (report.py).

Imports nothing: a mailbox is told from a log (mailbox.py) without the reader of its mails.
"""
