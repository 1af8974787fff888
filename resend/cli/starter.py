"""The resend.toml that `init` writes: every section that a first incident needs, commented, with what the person said.

Never overwrites. Raises UsageError for an answer that cannot be, StoreError where the file cannot be written.
"""

from __future__ import annotations

import json
from pathlib import Path
from zoneinfo import ZoneInfo

from resend.cli.screen import Screen
from resend.errors import StoreError, UsageError

_TEMPLATE = """\
# resend: settings of this directory. 'resend config show' tells each value and where it came from.
# A variable BULK_RESEND_SECTION__KEY wins over this file, a flag wins over both.

home = {home}                # evidence, catalog and ledger; "" is the XDG data directory
tz = {tz}                # zone of times without one, and of what is shown

[relay]                              # host "": mail goes direct to the receivers' MX
host = {host}
port = {port}
tls = {tls}                     # starttls | implicit | none (loopback only)
user = ""
password_env = "BULK_RESEND_RELAY_PASSWORD"   # the variable that holds it; never the password itself
log = ""                             # the relay's Postfix log: what became of the mail it accepted

# [egress.mta1]                      # several ways out, instead of [relay]: a relay (host, port, ...), or an address
# source = "192.0.2.7"               # of this host; PTR, EHLO name and SPF are looked up before a plan starts
# ehlo = "mail1.example.jp"
# providers = []                     # which it serves; empty: all
# weight = 1                         # its share
# [egress.mta1.limits.office365]     # instead of the profile's figures
# rate = "2/s"

[collect]
own_relays = []                      # addresses of relays of ours, besides 127.0.0.1, ::1 and collected hosts
queue_lifetime = "5d"                # Postfix maximal_queue_lifetime

[outcome]
late_after = "1h"                    # mail that arrived later than this counts as affected

[link]                               # how a mail in the log leads to its release and recipient
message_id = {message_id}
header = "X-Release-Id"              # logged by a Postfix header_checks INFO rule
verp = ""                            # for example "bounce+{{release}}.{{recipient}}@example.jp"

# [message]
# list_unsubscribe = "https://example.jp/u/{{recipient}}/{{release}}"   # one-click (RFC 8058), where a mail has none
# delayed_after = "24h"              # a mail later than this gets the template's variable `delayed`
# delayed_line = {{ ja = "配信が遅れましたことをお詫びします。", en = "We are sorry that this comes late." }}

# [dkim]                             # mail of ours is signed; without it the relay signs (extra `dkim`)
# selector = "s1"
# domain = "example.jp"
# key_file = "/etc/resend/dkim.pem"  # RSA, PEM, readable by its owner alone

[run]
connections = 20
in_doubt = "hold"                    # hold | resend: mail whose fate a lost connection hides
max_evidence_age = "15m"
wait = "15m"                         # how long a run waits for mail that becomes due

# [mx_map]                           # where to connect instead of DNS MX; the most specific key wins
# "example.jp" = "192.0.2.1:25"

# [catalog.releases]                 # also recipients, sendlog, suppressions: read-only, any SQLAlchemy URL
# url_env = "CATALOG_URL"
# query = "SELECT id, customer, title, sender FROM release"

# [providers.office365]              # overrides of a built-in profile
# rate = "5/s"
# start = "1/s"
"""


def write_config(screen: Screen) -> Path:
    """Ask where a person is there, then write; the path."""
    path = Path.cwd() / "resend.toml"
    if path.exists():
        raise StoreError(
            "the file exists; init never overwrites", where=str(path), next_step="edit it, or move it away"
        )
    answers = {"home": "", "tz": _local_zone(), "relay": "", "message_id": ""}
    if screen.asks:
        answers["home"] = _asked(screen, "home directory (empty: the XDG data directory)?", answers["home"])
        answers["tz"] = _asked(screen, f"time zone (empty: {answers['tz']})?", answers["tz"])
        answers["relay"] = _asked(screen, "relay HOST:PORT to send through (empty: direct to MX)?", "")
        answers["message_id"] = _asked(
            screen, "Message-ID of your mail, like release.{release}.{recipient}@mail.example.jp (empty: unknown)?", ""
        )
    text = _filled(answers)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise StoreError(
            f"cannot write: {error.strerror}", where=str(path), next_step="change to a directory of yours"
        ) from None
    return path


def _asked(screen: Screen, question: str, default: str) -> str:
    return screen.ask(question) or default


def _filled(answers: dict[str, str]) -> str:
    try:
        ZoneInfo(answers["tz"])
    except (KeyError, ValueError, OSError):
        raise UsageError(f"not a time zone: {answers['tz']!r}", next_step="write it like Asia/Tokyo") from None
    host, _, port = answers["relay"].partition(":")
    if port and not port.isdigit():
        raise UsageError(f"not a port: {port!r}", next_step="write the relay like mail.example.jp:587")
    loopback = host in ("127.0.0.1", "localhost")
    return _TEMPLATE.format(
        home=json.dumps(answers["home"], ensure_ascii=False),
        tz=json.dumps(answers["tz"]),
        host=json.dumps(host),
        port=port or "587",
        tls=json.dumps("none" if loopback else "starttls"),
        message_id=json.dumps(answers["message_id"], ensure_ascii=False),
    )


def _local_zone() -> str:
    """The machine's zone by name, where it is known; else UTC."""
    try:
        target = Path("/etc/localtime").resolve()
    except OSError:
        return "UTC"
    name = str(target).partition("/zoneinfo/")[2]
    return name if name and "/" in name and not name.startswith("Etc/") else "UTC"
