"""What must hold for any lines of these formats: nothing raises, every line is accounted once, good lines are read."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resend.collect import parse
from resend.collect.detect import detect
from tests.collect.reading import REPOSITORY

JSON_FORMATS = ("ses", "sendgrid", "mailgun", "postmark", "sparkpost", "kumomta", "table")
CSV_FORMATS = ("powermta", "exchange", "sendgrid_csv")


def _samples(name: str) -> list[str]:
    found: list[str] = []
    for case in sorted((REPOSITORY / "tests/cases" / name).iterdir()):
        (log,) = case.glob("log.*")
        found += log.read_text(encoding="utf-8").splitlines()
    return found


SAMPLES = {name: _samples(name) for name in JSON_FORMATS + CSV_FORMATS}
HEADINGS = {name: detect("\n".join(SAMPLES[name]).encode(), where=name, asked=name).heading for name in CSV_FORMATS}
ODD: list[Any] = [
    None,
    "",
    "x",
    7,
    -1e300,
    True,
    [],
    {},
    [None],
    {"a": []},
    "\u0000",
    "花",
    "2026-13-45T99:00:00Z",
    "@",
]


def _changed(value: Any, draw: st.DrawFn) -> Any:
    """The value with something in it replaced."""
    if isinstance(value, dict) and value and draw(st.booleans()):
        key = draw(st.sampled_from(sorted(value)))
        return {**value, key: _changed(value[key], draw)}
    if isinstance(value, list) and value and draw(st.booleans()):
        place = draw(st.integers(0, len(value) - 1))
        return [*value[:place], _changed(value[place], draw), *value[place + 1 :]]
    return draw(st.sampled_from(ODD))


@st.composite
def lines_of(draw: st.DrawFn, name: str) -> str:
    """A line of this format with something wrong: a value in it replaced, cut short, or letters changed."""
    line = draw(st.sampled_from(SAMPLES[name]))
    match draw(st.integers(0, 3)):
        case 0:
            return line[: draw(st.integers(0, len(line)))]
        case 1:
            at = draw(st.integers(0, len(line)))
            return (
                line[:at] + draw(st.sampled_from(['"', "\\", "{", "]", ",", ";", "\t", "\x00", "花", "##"])) + line[at:]
            )
        case 2:
            try:
                return json.dumps(_changed(json.loads(line), draw), ensure_ascii=False)
            except ValueError:
                return draw(st.text(max_size=40)).replace("\n", " ").replace("\r", " ")
        case _:
            return line


def _accounted(name: str, lines: list[str], folder: Any) -> None:
    data = "\n".join(lines).encode("utf-8", "replace") + b"\n"
    how = parse.Reading(name, "Asia/Tokyo", date(2026, 12, 7), "", heading=HEADINGS.get(name, ""))
    counted = parse.parse_block(data, how, folder / f"{name}.parquet")
    assert counted.lines == data.count(b"\n")
    assert 0 <= counted.parsed <= counted.lines and counted.parsed + counted.rejected <= counted.lines
    for event in parse.parse_lines(data, how):
        assert 1 <= event["line"] <= counted.lines
        match event["kind"]:
            case "attempt":
                assert event["status"] in ("sent", "deferred", "bounced", "expired", "returned")
                assert "@" in event["recipient"] and event["qid"] and event["host"] and event["at_us"] > 0
            case "rejected":
                assert event["reply"] and event["qid"] == event["host"] == ""
            case kind:
                assert kind in ("queued", "begin", "header", "complaint") and event["host"] and event["at_us"] > 0


@pytest.mark.parametrize("name", JSON_FORMATS + CSV_FORMATS)
def test_changed_lines_are_accounted(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    @settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(lines_of(name), min_size=8, max_size=40))
    def check(lines: list[str]) -> None:
        _accounted(name, lines, tmp_path_factory.getbasetemp())

    check()


@pytest.mark.parametrize("name", JSON_FORMATS + CSV_FORMATS)
def test_lines_of_other_formats_and_odd_values_are_accounted(
    name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """One block with every sample of every format, cut at three places, and values that are no records."""
    whole = [line for each in SAMPLES.values() for line in each]
    cut = [line[: len(line) * part // 4] for line in whole for part in (1, 3)]
    odd = [json.dumps(value) for value in ODD] + [json.dumps([value]) for value in ODD]
    _accounted(name, [*whole, *cut, *odd], tmp_path_factory.getbasetemp())


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.text(alphabet="ab\",;'花 #", max_size=8), min_size=2, max_size=8))
def test_fields_of_a_record_come_out_as_they_went_in(fields: list[str]) -> None:
    """A header column holds what was written, quoted or not."""
    heading = ",".join(["type", "timeLogged", "rcpt", *(f"header_X-{number}" for number in range(len(fields)))])
    written = ",".join('"' + field.replace('"', '""') + '"' if set(field) & set('",') else field for field in fields)
    found = parse.parse_lines(
        f"b,1795136400,a@example.jp,{written}\n".encode(),
        parse.Reading("powermta", "UTC", date(2026, 12, 7), "", heading=heading),
    )
    told = {event["text"].partition(": ")[0]: event["text"].partition(": ")[2] for event in found if event["text"]}
    assert told == {f"header x-{number}": field.strip() for number, field in enumerate(fields) if field.strip()}
