"""Links outcomes to releases and recipients: runs sql/link in order, the first certain rule wins.

Reads the tables of its DuckDB connection and leaves temp table `link` there: one row for each outcome, with the rule
and what it rests on. Guesses nothing: what does not fit the catalog is ambiguous or none, and says why. A rule whose
header says `Confidence: probable` is never certain, however well it fits. Raises ConfigError for a link template that
cannot be read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import duckdb

from resend.config import LinkConfig
from resend.errors import ConfigError
from resend.policy.address import rcpt_key, validate_rcpt
from resend.policy.linktemplate import LinkTemplate
from resend.policy.subject import folded_subject
from resend.stores import sql
from resend.stores.history import OwnTry

OWN_RULE = "00_own_try"
_QUOTED = re.compile(r'"(?P<local>(?:[^"\\]|\\.)*)"@(?P<domain>[^@]+)')
_ESCAPE = re.compile(r"\\(?=.)")
# A mail is in the queue minutes after the application sent it; a bounce may come a queue lifetime later, and another
# lifetime for the hops after it.
_WINDOWS_US = {"send_window_us": 900_000_000, "bounce_window_us": 604_800_000_000, "ahead_us": 60_000_000}
_LINK_COLUMNS = (
    "outcome_id BIGINT, release VARCHAR, recipient_id VARCHAR, rule VARCHAR, confidence VARCHAR, candidates BIGINT,"
    " evidence VARCHAR, doubt VARCHAR"
)


def link(con: duckdb.DuckDBPyConnection, config: LinkConfig, own_tries: Iterable[OwnTry]) -> None:
    """Make temp tables `outcome` and `link` from `suspect` (linker/outcomes) and the catalog's views.

    Every outcome has one row in `link`: the first certain link, else the best of the others (probable, ambiguous,
    none); rule '' where no rule found anything. Rows of OWN_RULE are our own resends.
    """
    prepare(con, config, own_tries)
    sql.set_params(con, {"header": config.header.lower(), **_WINDOWS_US})
    con.execute(f"CREATE OR REPLACE TEMP TABLE link ({_LINK_COLUMNS})")
    con.execute(f"CREATE OR REPLACE TEMP TABLE trial ({_LINK_COLUMNS})")
    con.execute(
        "CREATE OR REPLACE TEMP VIEW open_outcome AS SELECT o.* FROM outcome AS o ANTI JOIN link USING (outcome_id)"
    )
    for name in sql.names("link"):
        rule = Path(name).name
        con.execute(f"CREATE OR REPLACE TEMP TABLE claim AS {sql.load(name)}")
        if rule == OWN_RULE:
            con.execute(
                "INSERT INTO link SELECT outcome_id, min(release), min(recipient_id), ?, 'certain', 1, min(evidence),"
                " '' FROM claim GROUP BY outcome_id",
                [rule],
            )
            continue
        con.execute(f"CREATE OR REPLACE TEMP TABLE settled AS {sql.load('link/setup/settle')}")
        if _is_probable(name):
            con.execute("UPDATE settled SET confidence = 'probable' WHERE confidence = 'certain'")
        for table, condition in (("link", "="), ("trial", "<>")):
            con.execute(
                f"INSERT INTO {table} SELECT outcome_id, release, recipient_id, ?, confidence, candidates, evidence,"
                f" doubt FROM settled WHERE confidence {condition} 'certain'",
                [rule],
            )
    con.execute(f"INSERT INTO link {sql.load('link/setup/rest')}")


def prepare(con: duckdb.DuckDBPyConnection, config: LinkConfig, own_tries: Iterable[OwnTry]) -> None:
    """Make the tables that the rules read."""
    keys(con)
    con.execute(f"CREATE OR REPLACE TEMP TABLE outcome AS {sql.load('link/setup/outcome')}")
    con.execute(f"CREATE OR REPLACE TEMP TABLE owner AS {sql.load('link/setup/owner')}")
    con.execute(f"CREATE OR REPLACE TEMP TABLE sent AS {sql.load('link/setup/sent')}")
    _subjects(con)
    sql.create_table(
        con,
        "own_try",
        {
            "remote_qid": "VARCHAR", "message_id": "VARCHAR", "address": "VARCHAR", "at_us": "BIGINT",
            "release": "VARCHAR", "recipient_id": "VARCHAR",
        },
        (
            (t.remote_qid, t.message_id.strip("<>"), t.rcpt_key.lower(), t.at_us, t.release, t.recipient_id)
            for t in own_tries
        ),
    )  # fmt: skip
    sql.create_table(
        con,
        "template",
        {
            "source": "VARCHAR", "prefix": "VARCHAR", "prefix_length": "INTEGER", "infix": "VARCHAR",
            "suffix": "VARCHAR", "parts": "VARCHAR",
        },
        _templates(config),
    )  # fmt: skip
    con.execute(
        "CREATE OR REPLACE TEMP TABLE named AS"
        " SELECT outcome_id, 'message-id' AS source, bare_id AS text, address,"
        " concat(evidence, ' message-id ', message_id) AS evidence FROM outcome"
        " UNION ALL SELECT outcome_id, 'envelope', sender, address, concat(evidence, ' envelope ', sender) FROM outcome"
    )
    con.execute(f"CREATE OR REPLACE TEMP TABLE reading AS {sql.load('link/setup/reading')}")


def _is_probable(rule: str) -> bool:
    return any(line.startswith("-- Confidence: probable") for line in sql.load(rule).splitlines())


def _subjects(con: duckdb.DuckDBPyConnection) -> None:
    """Make `subject`(outcome_id, subject) and `title`(release, title) as they are compared: each distinct one once."""
    said = con.execute("SELECT DISTINCT subject FROM outcome WHERE subject <> ''").fetchall()
    titles = con.execute("SELECT id, title FROM release").fetchall() if said else []
    sql.create_table(
        con,
        "folded_subject",
        {"text": "VARCHAR", "subject": "VARCHAR"},
        [(text, folded_subject(text)) for (text,) in said],
    )
    sql.create_table(
        con, "title", {"release": "VARCHAR", "title": "VARCHAR"}, [(id_, folded_subject(text)) for id_, text in titles]
    )
    con.execute(
        "CREATE OR REPLACE TEMP TABLE subject AS SELECT o.outcome_id, f.subject FROM outcome AS o"
        " JOIN folded_subject AS f ON f.text = o.subject"
    )


def keys(con: duckdb.DuckDBPyConnection) -> None:
    """Make temp table `suspect_key`(outcome_id, rcpt_key): plain addresses in SQL, every other distinct one in Python.

    What is no address at all (a local user, a broken line) is its own key, which no catalog has.
    """
    con.execute(sql.load("catalog/setup/macros"))
    rest = con.execute("SELECT DISTINCT recipient FROM suspect WHERE NOT plain_address(recipient)").fetchall()

    def judged() -> Iterator[Sequence[str]]:
        for (recipient,) in rest:
            try:
                yield recipient, rcpt_key(_unquoted(recipient))
            except ValueError:
                yield recipient, recipient

    sql.create_table(con, "odd_key", {"recipient": "VARCHAR", "rcpt_key": "VARCHAR"}, judged())
    con.execute(
        "CREATE OR REPLACE TEMP TABLE suspect_key AS"
        " SELECT s.outcome_id, coalesce(k.rcpt_key, plain_key(s.recipient)) AS rcpt_key"
        " FROM suspect AS s LEFT JOIN odd_key AS k ON k.recipient = s.recipient"
    )


def _unquoted(recipient: str) -> str:
    """A logged address without quotes that it does not need: Postfix writes `"a..b"@docomo.ne.jp` for `a..b@...`.

    Both are one mailbox (RFC 5321 4.1.2); where the quotes are needed the address stays as it is.
    """
    match = _QUOTED.fullmatch(recipient)
    if match is None:
        return recipient
    bare = f"{_ESCAPE.sub('', match['local'])}@{match['domain']}"
    try:
        validate_rcpt(bare)
    except ValueError:
        return recipient
    return bare


def _templates(config: LinkConfig) -> Iterator[Sequence[object]]:
    for source, key, text in (("message-id", "message_id", config.message_id), ("envelope", "verp", config.verp)):
        if not text:
            continue
        try:
            template = LinkTemplate.parse(text)
        except ValueError as error:
            raise ConfigError(
                str(error), where=f"[link] {key}", next_step="write it like in 'resend config show'"
            ) from None
        yield source, template.prefix, len(template.prefix), template.infix, template.suffix, " ".join(template.parts)
