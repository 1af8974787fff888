"""Logs compressed with zstd: segments of many frames, one that is still being written, and files made to do harm."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from resend.collect import files
from resend.collect.collect import CollectSummary
from resend.stores.home import Home
from tests.collect.reading import numbers, rows

FRAMES, LINES = 5, 40
SKIPPED = b"\x50\x2a\x4d\x18\x05\x00\x00\x00notes"  # a skippable frame, RFC 8878 3.1.2
Gather = Callable[..., CollectSummary]


def segment() -> bytes:
    """Lines of a KumoMTA log."""
    return b"".join(
        json.dumps(
            {
                "type": "Delivery",
                "id": f"{number:032x}",
                "sender": "bounce@example.jp",
                "recipient": f"user{number}@corp{number % 7}.example.jp",
                "response": {"code": 250, "content": "OK"},
                "peer_address": {"name": "mx.example.jp.", "addr": "192.0.2.1"},
                "timestamp": 1_795_140_000 + number,
                "created": 1_795_139_999 + number,
                "nodeid": "node1",
                "bounce_classification": "Uncategorized",
            }
        ).encode()
        + b"\n"
        for number in range(FRAMES * LINES)
    )


def packed(plain: bytes) -> bytes:
    """Several frames, cut where they come, and one to skip."""
    step = len(plain) // FRAMES + 1
    frames = [zstandard.compress(plain[at : at + step]) for at in range(0, len(plain), step)]
    return SKIPPED.join(frames)


def test_all_frames_of_a_segment_are_read(home: Home, gather: Gather, tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(segment())
    gather(tmp_path / "plain")
    before = rows(home)
    (tmp_path / "segment.zst").write_bytes(packed(segment()))
    assert next(files.blocks(tmp_path / "segment.zst", [])).read() == segment()
    gather(tmp_path / "segment.zst")
    assert rows(home) == before, "the same blocks, so the same parts"
    assert numbers(home)[1] == 2 * FRAMES * LINES


@pytest.mark.parametrize("lost", [1, 3, 500])
def test_a_cut_segment_gives_what_came_before(tmp_path: Path, lost: int) -> None:
    path = tmp_path / "segment.zst"
    path.write_bytes(packed(segment())[:-lost])
    warn: list[str] = []
    found = b"".join(block.read() for block in files.blocks(path, warn))
    assert segment().startswith(found)
    assert found.count(b"\n") >= (FRAMES - 2) * LINES
    assert len(warn) == 1 and "cut short" in warn[0]


@pytest.mark.parametrize(
    ("harm", "said"), [(b"junk behind the last frame", "unreadable after"), (b"\x28\xb5\x2f\xfd\x00", "cut short")]
)
def test_what_follows_the_last_frame_is_said(tmp_path: Path, harm: bytes, said: str) -> None:
    path = tmp_path / "segment.zst"
    path.write_bytes(packed(segment()) + harm)
    warn: list[str] = []
    assert b"".join(block.read() for block in files.blocks(path, warn)) == segment()
    assert said in warn[0]


def test_a_bomb_is_stopped(tmp_path: Path) -> None:
    """A gigabyte of one line's repetition in some kilobytes."""
    path = tmp_path / "bomb.zst"
    press = zstandard.ZstdCompressor().compressobj()
    line = b"a" * 1023 + b"\n"
    with path.open("wb") as handle:
        for _ in range(400):
            handle.write(press.compress(line * 1024))
        handle.write(press.flush())
    warn: list[str] = []
    total = sum(block.length for block in files.blocks(path, warn))
    assert path.stat().st_size < 1 << 20 and total < 400 << 20
    assert "expands more than" in warn[0]


def test_a_window_too_large_is_refused(tmp_path: Path) -> None:
    """A header may ask for gigabytes of memory before a single byte comes out."""
    path = tmp_path / "wide.zst"
    wide = zstandard.ZstdCompressionParameters(window_log=30, enable_ldm=True)
    press = zstandard.ZstdCompressor(compression_params=wide).compressobj()
    path.write_bytes(press.compress(segment()) + press.flush())
    warn: list[str] = []
    assert list(files.blocks(path, warn)) == []
    assert "unreadable after 0 bytes" in warn[0]
