"""resend: find the mail a provider throttled or blocked, link it to what it was, and resend it safely."""

__version__ = "0.1.0"
