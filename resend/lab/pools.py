"""The receivers that the made-up incident is resent to, and the config that leads there. Data only.

The office365 pool hides a limit below the rate that the config allows, and a block behind it for those who do not slow
down. Port 0 in the behaviour: the system chooses, and `config` is given what it chose.
"""

from __future__ import annotations

from typing import Any

from resend.lab.behaviour import Behaviour, Block, Fault, Pool, Rate

HIDDEN_PER_SECOND = 200.0  # what office365 takes; its profile in `config` says 320
LINK = {
    "message_id": "release.{release}.{recipient}@mail.example.jp",
    "header": "X-Release-Id",
    "verp": "bounce+{release}.{recipient}@example.jp",
}


def receivers(seed: int, *, to_resend: int, port: int = 0) -> Behaviour:
    """One pool for each receiving system. About three mails of `to_resend` lose the line after an accepted dot."""
    share = max(0.002, 3 / max(1, to_resend))
    lost = Fault(do="drop", at="dot", name="lost-after-dot", p=share, once=True, accepted=True)
    pools = [
        Pool(
            name="office365",
            listen=(f"127.0.1.1:{port}", f"127.0.1.2:{port}"),
            hostname="TYCJPN01FT012.mail.protection.outlook.com",
            rate=Rate(per_second=HIDDEN_PER_SECOND, burst=5),
            block=Block(after=100, reset_s=5.0, for_s=600.0),
            faults=(lost,),
        )
    ]
    for number, name in enumerate(("google", "yahoo_jp", "docomo", "au", "softbank", "other"), 3):
        pools.append(
            Pool(name=name, listen=(f"127.0.1.{number}:{port}",), hostname=f"mx.{name.replace('_', '-')}.test")
        )
    return Behaviour(seed=seed, pools=tuple(pools))


def yahoo_relay(pool_address: str, seed: int, *, to_resend: int, port: int = 0) -> dict[str, Any]:
    """The description of a lab relay before the yahoo_jp pool. About two mails lose the line though it queued them."""
    lost = {"do": "drop", "at": "dot", "name": "relay-lost-after-dot", "once": True, "accepted": True}
    smtpd = {"listen": [f"127.0.0.1:{port}"], "hostname": "relay.mail.example.jp"}
    return {
        "seed": seed,
        "smtpd": smtpd | {"faults": [lost | {"p": min(1.0, 2 / max(1, to_resend))}]},
        "routes": {"*": pool_address},
        "names": {pool_address: "mx1.mail.yahoo.co.jp"},
        "host": "relay1",
        "backoff_s": 0.5,
        "max_backoff_s": 2.0,
        "lifetime_s": 30.0,
    }


def config(addresses: dict[str, str], *, yahoo_relay: str = "") -> dict[str, Any]:
    """resend.toml as a tree. `addresses`: pool -> HOST:PORT. `yahoo_relay`: a lab relay for mail to yahoo.co.jp."""
    return {
        "tz": "Asia/Tokyo",
        "collect": {"queue_lifetime": "1d"},
        "dns": {"enabled": False},
        "outcome": {"late_after": "1h"},
        "link": dict(LINK),
        "mx_map": {
            "provider:office365": addresses["office365"],
            "provider:google": addresses["google"],
            "yahoo.co.jp": yahoo_relay or addresses["yahoo_jp"],
            "docomo.ne.jp": addresses["docomo"],
            "ezweb.ne.jp": addresses["au"],
            "softbank.ne.jp": addresses["softbank"],
            "*": addresses["other"],
        },
        "run": {"connections": 20, "wait": "30s", "retry_after": "1s", "retry_at_most": "4s", "recipient_gap": "1s"},
        "providers": {
            "office365": {
                "rate": "320/s",
                "connections": 8,
                "start": "160/s",
                "dwell": "1s",
                "cooldown": "2s",
                "floor": "5/s",
                "clean_for": "1s",
                "cap_for": "5s",
                "mails_per_connection": 50,
            },
        },
    }


def to_toml(tree: dict[str, Any]) -> str:
    """A config tree as TOML: plain values first, then tables."""
    lines: list[str] = []
    _table(tree, "", lines)
    return "\n".join(lines) + "\n"


def _table(tree: dict[str, Any], prefix: str, lines: list[str]) -> None:
    for key, value in tree.items():
        if not isinstance(value, dict):
            lines.append(f"{_key(key)} = {_value(value)}")
    for key, value in tree.items():
        if isinstance(value, dict):
            name = f"{prefix}.{_key(key)}" if prefix else _key(key)
            if any(not isinstance(inner, dict) for inner in value.values()):
                lines += ["", f"[{name}]"]
            _table(value, name, lines)


def _key(key: str) -> str:
    return key if key.replace("_", "").replace("-", "").isalnum() and key.isascii() else f'"{key}"'


def _value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    return f'"{value}"' if isinstance(value, str) else str(value)
