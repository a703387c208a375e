"""Hidden tests of published code problems come as pickles: their text is read, and nothing in them runs."""

from __future__ import annotations

import base64
import json
import os
import pickle
import zlib
from pathlib import Path

import pytest

from or1lab.data import published
from or1lab.data.load import read
from or1lab.data.published import pickled_text, private_tests

FIXTURES = Path(__file__).parent / "fixtures"


def pack(data: bytes) -> str:
    return base64.b64encode(zlib.compress(data)).decode()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("size", [1, 300, 70_000])
def test_a_pickled_text_is_read_in_every_protocol(protocol, size):
    tests = [{"input": "é\n\u2028'\"\\" * size, "output": "\x00"}]
    plain = json.dumps(tests, ensure_ascii=False)
    assert pickled_text(pickle.dumps(plain, protocol)) == plain
    assert private_tests(pack(pickle.dumps(plain, protocol))) == tests


class Harmful:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_that_would_run_is_not_run(protocol, tmp_path):
    path = tmp_path / "made"
    data = pickle.dumps(Harmful(path), protocol)
    with pytest.raises(ValueError, match="a pickle that is more than a text"):
        pickled_text(data)
    assert not path.exists()
    pickle.loads(data)
    assert path.exists()  # the danger was real


@pytest.mark.parametrize("value", [b"bytes", 7, ["a"], {"a": "b"}, None, ("a", "b")])
def test_a_pickle_of_anything_else_is_refused(value):
    with pytest.raises(ValueError, match="a pickle"):
        pickled_text(pickle.dumps(value))


@pytest.mark.parametrize("count, data", [(0, b"\x80\x04."), (2, b"\x80\x04\x8c\x01a\x8c\x01b.")])
def test_a_pickle_of_no_text_or_two_is_refused(count, data):
    with pytest.raises(ValueError, match=f"a pickle of {count} texts, not one"):
        pickled_text(data)


@pytest.mark.parametrize(
    "packed", ["", "!!!", "AAAA", pack(b""), pack(b"\x80"), pack(b"junk"), pack(pickle.dumps("[")), "["]
)
def test_hidden_tests_that_are_damaged_cost_their_row(packed, tmp_path):
    rows = [json.loads(line) for line in (FIXTURES / "livecodebench.jsonl").read_text(encoding="utf-8").splitlines()]
    rows[1]["private_test_cases"] = packed
    path = tmp_path / "p.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    loaded = read("livecodebench", options={"file": str(path)})
    assert [problem.id[-6:] for problem in loaded] == ["made_a", "made_b"]
    assert [skipped.number for skipped in loaded.skipped] == [2]


def test_a_bomb_is_not_unpacked(monkeypatch):
    monkeypatch.setattr(published, "LARGEST", 1 << 20)
    with pytest.raises(ValueError, match="more than 1 MiB"):
        private_tests(pack(pickle.dumps(json.dumps([{"input": "0" * (64 << 20), "output": ""}]))))
