"""Sends a started plan: one mail a transaction, armed before its dot, its outcome durable before the next."""
