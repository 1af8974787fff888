"""What a resent mail is made of: its identity and its bytes.

The door to policy/message.py, policy/merge.py and policy/template.py for what renders mails; what only reads them asks
policy/message.py, and does without Jinja2. Pure. Raises ContentError, a ValueError: that mail is quarantined, not the
run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from resend.policy.merge import render
from resend.policy.message import ContentError, identity_of, kept, renew, whole_lines
from resend.policy.template import validate

__all__ = [
    "RENDERER",
    "ContentError",
    "canonical",
    "content_id",
    "identity_of",
    "kept",
    "new_message_id",
    "render",
    "renew",
    "validate",
    "whole_lines",
]

RENDERER = "1"  # rises when the same inputs would give other bytes
_CANONICAL = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def content_id(*, template_sha256: str, variables: str, message_id: str, date: str, kind: str) -> str:
    """What the bytes of a mail depend on, as sha256 hex; kept bytes under their own identity are their hash.

    `variables`: canonical JSON; `message_id` and `date` "" for the identity `new`; `kind`: template, kept or eml.
    """
    if kind == "kept" and message_id:
        return template_sha256
    parts = (RENDERER, kind, template_sha256, message_id, date, variables)
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()


def canonical(variables: Mapping[str, object]) -> str:
    """A template's variables as the JSON text that plans keep and `content_id` hashes."""
    return _CANONICAL.encode(variables)


def new_message_id(key: str, sender: str) -> str:
    """The Message-ID of a mail with the identity `new`, with brackets: the same for every try of one delivery.

    >>> new_message_id("00ff", "news@example.jp")
    '<resend.00ff@example.jp>'
    """
    return f"<resend.{key}@{sender.rpartition('@')[2] or 'localhost'}>"
