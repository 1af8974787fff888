"""The rows of a frozen plan as a run asks for them: all of them for the ledger, then mail after mail; few columns.

A batch lies in one piece in the plan's file, and the batches that a lane claims next lie behind it: rows are read many
at a time. A row that was handed out is forgotten. Raises StoreError where the file is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from resend.model import Identity
from resend.policy.content import new_message_id
from resend.stores.home import Home
from resend.stores.plans import PlanFile

_STEP = 4096  # rows read at once, about 10 ms
_KEPT = 32_768  # rows kept at most; beyond it they are read again


class FrozenRow(NamedTuple):
    """What the bytes of a mail are made of."""

    key: str
    release: str
    message_id: str
    identity: str
    date: str
    content_id: str
    content_kind: str
    envelope_from: str
    sender: str
    rcpt: str
    title: str
    variables: str
    file_row_number: int


class PlannedMail(NamedTuple):
    """What the ledger keeps of a mail when its plan is started. `date`, `expires_at`, `not_before` "" where absent."""

    key: str
    release: str
    rcpt_key: str
    generation: int
    incident_id: str
    batch_id: str
    seq: int
    recipient_id: str
    rcpt: str
    customer: str
    domain: str
    egress: str
    provider: str
    envelope_from: str
    identity: str
    message_id: str
    content_id: str
    date: str
    expires_at: str
    not_before: str


class PlannedMails(PlanFile):
    """A plan as it enters the ledger."""

    def mails(self) -> Iterator[PlannedMail]:
        """All mails, in sending order."""
        cursor = self._run(f"SELECT {', '.join(PlannedMail._fields)}, sender FROM {self._source}", [])
        while chunk := cursor.fetchmany(2_048):
            for *fields, sender in chunk:
                mail = PlannedMail._make(fields)
                # Under a new identity the file has the original's, by which kept bytes are found; a log shows ours.
                new = mail.identity == Identity.NEW
                yield mail._replace(message_id=new_message_id(mail.key, sender)) if new else mail


class FrozenMails(PlanFile):
    """One plan's rows by key. `batch_keys`: keys of a batch that the plan's file does not know, made of due mails."""

    def __init__(self, home: Home, plan_id: str, batch_keys: Callable[[str], Sequence[str]]) -> None:
        super().__init__(home, plan_id)
        self._batch_keys = batch_keys
        self._columns = f"SELECT {', '.join(FrozenRow._fields)} FROM read_parquet(?, file_row_number = true)"
        places = self._run(
            "SELECT batch_id, min(file_row_number), max(file_row_number) FROM read_parquet(?, file_row_number = true)"
            " GROUP BY batch_id",
            [str(self._path)],
        )
        self._places: dict[str, tuple[int, int]] = {batch: (first, last) for batch, first, last in places.fetchall()}
        self._rows: dict[str, FrozenRow] = {}
        self._keys: dict[int, str] = {}  # of `_rows`, by their place in the file

    def row(self, key: str, batch_id: str) -> FrozenRow | None:
        """The row of a mail; None where the plan has none."""
        found = self._take(key)
        if found is None:
            if len(self._rows) > _KEPT:
                self._rows.clear()
                self._keys.clear()
            if batch_id in self._places:
                first, last = self._places[batch_id]
                self._read("file_row_number BETWEEN ? AND ?", [first, max(last, first + _STEP - 1)])
                found = self._take(key)
        if found is None:
            self._read("key IN (SELECT unnest(?))", [list({key, *self._batch_keys(batch_id)})])
            found = self._take(key)
        return found

    def behind(self, row: FrozenRow, batch_id: str) -> FrozenRow | None:
        """The next row of a batch, where it has been read and not been handed out; it is, by that."""
        number = row.file_row_number + 1
        if number > self._places.get(batch_id, (0, -1))[1] or number not in self._keys:
            return None
        return self._take(self._keys[number])

    def put_back(self, row: FrozenRow) -> None:
        """A row that was not needed after all."""
        self._rows[row.key] = row
        self._keys[row.file_row_number] = row.key

    def _take(self, key: str) -> FrozenRow | None:
        found = self._rows.pop(key, None)
        if found is not None:
            del self._keys[found.file_row_number]
        return found

    def _read(self, condition: str, values: list[object]) -> None:
        rows = self._run(f"{self._columns} WHERE {condition}", [str(self._path), *values])
        while chunk := rows.fetchmany(2_048):
            made = [FrozenRow._make(row) for row in chunk]
            self._rows.update((row.key, row) for row in made)
            self._keys.update((row.file_row_number, row.key) for row in made)
