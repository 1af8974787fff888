"""Joins failed mail to what it was: outcomes, links, causes, verdicts, and the frozen incident."""
