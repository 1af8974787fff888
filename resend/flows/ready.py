"""Whether this host can make the mails of a plan: it holds the plan's file, the content and the key they need.

Several hosts that send one plan each have a home of their own; the ledger is all that they share. Without this look a
host that lacks a template or a DKIM key would take every mail of it out as unfit. Reads only. Raises ConfigError for a
key that is missing, unreadable or another one.
"""

from __future__ import annotations

from resend.config import Config
from resend.errors import ConfigError, ResendError, StoreError
from resend.flows.bodies import StoredBodies
from resend.policy.dressing import SIGNER_PATH
from resend.stores.content import ContentStore
from resend.stores.home import Home
from resend.stores.keyfile import load_signer
from resend.stores.plans import PlanFile, PlanRow, plan_path


def check_key(home: Home, config: Config, plan_id: str) -> None:
    """Raise ConfigError where `[dkim]` cannot sign the mails of a plan as they were planned."""
    signer = load_signer(config)
    have = "" if signer is None else signer.name
    with PlanFile(home, plan_id) as frozen:
        wanted = sorted(frozen.frozen(SIGNER_PATH) - {"", have})
    if wanted:
        raise ConfigError(
            f"plan {plan_id[:12]} was made with the DKIM key {wanted[0]}, and [dkim] names"
            f" {have or 'none'}; nothing was sent",
            where="dkim.key_file",
            next_step=f"put that key back, or close the plan and make a new one: resend plan close {plan_id[:12]}",
        )


def lacks(home: Home, config: Config, plan_id: str) -> ResendError | None:
    """What is not there, with what to copy; None where everything is. One mail of each release is looked at whole."""
    path = plan_path(home, plan_id)
    if not path.is_file():
        return StoreError(
            f"this host has not got the plan {plan_id[:12]}, which another one made",
            where=str(path),
            next_step="copy derived/plan-*.parquet and content/ from the home of the host that made it, then start"
            " this command again",
        )
    try:
        check_key(home, config, plan_id)
        with PlanFile(home, plan_id) as frozen:
            found = _first_unfit(home, frozen)
    except ResendError as error:
        return error
    if found is None:
        return None
    return StoreError(
        f"this host cannot make the mails of release {found.release} as planned: the content is not there, or is other",
        where=str(home.content),
        next_step=f"copy content/ from the home of the host that made plan {plan_id[:12]}, then start this command"
        " again",
    )


def _first_unfit(home: Home, frozen: PlanFile) -> PlanRow | None:
    bodies, store = StoredBodies(home), ContentStore(home)
    seen: set[tuple[str, str]] = set()
    for row in frozen.rows():
        known = (row.release, row.content_kind)
        if known in seen:
            if row.content_kind == "kept" and not store.has_kept(row.message_id):
                return row
            continue
        seen.add(known)
        body = bodies.body(row.release, row.message_id)
        if body is None or body.kind != row.content_kind:
            return row
        if bodies.content_id(row, body, row.variables) != row.content_id:
            return row
    return None
