"""Turns what mail systems wrote into evidence: files to blocks, blocks to events, events to immutable parts."""
