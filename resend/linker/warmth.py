"""What the sender's own log tells of an address: how much its mail host delivered to each provider, on which days.

A mail host is known by its name in the log: the EHLO name of the address, or the first part of it. Changes nothing.
Raises StoreError.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from resend.clock import from_micros, to_micros
from resend.config import Config
from resend.policy.providers import ProviderTable
from resend.stores import sql
from resend.stores.evidence import Evidence
from resend.stores.home import Home
from resend.stores.warmth import Warmth

LOOK_BACK = timedelta(days=30)


def delivered(home: Home, config: Config, names: Mapping[str, str], *, now: datetime) -> dict[tuple[str, str], Warmth]:
    """By (egress, provider), of the last 30 days; `names`: the EHLO name of each egress. What no log has is missing."""
    evidence = Evidence(home)
    logged = {host.lower() for part in evidence.manifest().parts.values() for host in part.hosts}
    sends = [
        (egress, host)
        for egress, name in names.items()
        for host in {name.lower(), name.lower().partition(".")[0]} & logged
    ]
    if not sends:
        return {}
    table = ProviderTable.load(config.providers)
    days: dict[tuple[str, str], dict[int, int]] = {}
    last: dict[tuple[str, str], int] = {}
    with sql.connect(memory_limit="768MiB", temp_dir=home.derived) as con:
        evidence.attach(con)
        sql.create_table(con, "sends", {"egress": "VARCHAR", "host": "VARCHAR"}, sends)
        sql.set_params(con, {"from_us": to_micros(now - LOOK_BACK), "until_us": to_micros(now)})
        for egress, relay, address, domain, day, mails, at in con.execute(sql.load("preflight/delivered")).fetchall():
            place = (egress, table.of(relay or "", address or "", domain or "")[0])
            counted = days.setdefault(place, {})
            counted[day] = counted.get(day, 0) + mails
            last[place] = max(at, last.get(place, at))
    return {
        place: Warmth(days=len(counted), mails=sum(counted.values()), last_at=from_micros(last[place]))
        for place, counted in days.items()
    }
