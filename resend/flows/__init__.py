"""Composes stages into what a command does: run, catch-up, reconcile, incident, demo. Decides nothing itself."""
