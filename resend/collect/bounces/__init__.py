"""Reads mails that report a failure (bounces, delay warnings, complaints): bytes in, records out."""

from resend.collect.bounces.read import read_report
from resend.collect.bounces.report import Failed, FailedAction, Report, ReportKind

__all__ = ["Failed", "FailedAction", "Report", "ReportKind", "read_report"]
