"""Files of problems: what is written comes back, and whatever else a file holds is named, never an end."""

from __future__ import annotations

import json
import math
import tracemalloc
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from or1lab.data import load
from or1lab.data.load import Skipped, read, write
from or1lab.data.problem import Difficulty, Problem
from or1lab.errors import Or1labError, UsageError


def line(id: str = "a", **more: object) -> bytes:
    return json.dumps({"id": id, "domain": "math", "prompt": "?", "gold": "1", **more}).encode()


def put(path: Path, *lines: bytes, end: bytes = b"\n") -> str:
    path.write_bytes(b"".join(part + end for part in lines))
    return str(path)


def ids(loaded: load.Loaded) -> list[str]:
    return [problem.id for problem in loaded]


# ------------------------------------------------------------------------------------------------- round trips

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
filled = texts.filter(str.strip)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
judged = st.one_of(
    st.fixed_dictionaries({"gold": filled | st.lists(filled, min_size=1, max_size=3)}),
    st.fixed_dictionaries({"tests": st.dictionaries(texts, values, min_size=1, max_size=3)}),
    st.fixed_dictionaries({"tests": st.lists(st.dictionaries(texts, values, max_size=2), min_size=1, max_size=3)}),
)
counts = st.integers(1, 16).flatmap(lambda n: st.builds(Difficulty, solved=st.integers(0, n), samples=st.just(n)))
problems = st.builds(
    lambda how, **more: Problem(**how, **more), judged, id=st.uuids().map(str), domain=filled, prompt=filled,
    solution=st.none() | texts, source=texts, licence=texts, difficulty=st.dictionaries(texts, counts, max_size=2),
    meta=st.dictionaries(texts, values, max_size=3),
)  # fmt: skip


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(found=st.lists(problems, max_size=4, unique_by=lambda problem: problem.id))
def test_what_is_written_comes_back_exactly(found, suffix, tmp_path):
    path = tmp_path / f"p{suffix}"
    assert write(found, path) == len(found)
    loaded = read(str(path))
    assert repr(list(loaded)) == repr(found)  # repr: 1 is not 1.0, and "7" not ["7"]
    assert loaded.skipped == []
    assert list(tmp_path.iterdir()) == [path]


def test_parquet_is_written_in_groups_that_fit_into_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(load, "GROUP", 1 << 16)
    big = [Problem(id=str(i), domain="code", prompt="?", tests={"inputs": ["x" * 30_000]}) for i in range(4)]
    path = tmp_path / "big.parquet"
    assert write(iter(big), path) == 4
    assert pq.ParquetFile(path).num_row_groups == 2
    loaded = read(str(path))
    assert loaded.total == 4 and list(loaded) == big


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
@pytest.mark.parametrize(
    "meta", [{"x": math.nan}, {"x": [math.inf]}, {"x": "\ud800"}, {"x": object()}], ids=["nan", "inf", "half", "object"]
)
def test_what_json_cannot_hold_is_named_and_the_old_file_stays(suffix, meta, tmp_path):
    path = tmp_path / f"p{suffix}"
    good = Problem(id="good", domain="math", prompt="?", gold="1")
    write([good], path)
    with pytest.raises(Or1labError, match="the problem 'bad' cannot be written"):
        write([good, Problem(id="bad", domain="math", prompt="?", gold="1", meta=meta)], path)
    assert list(read(str(path))) == [good]
    assert list(tmp_path.iterdir()) == [path]


def test_another_kind_of_file_is_wrong_use(tmp_path):
    with pytest.raises(UsageError, match=r"neither a \.jsonl nor a \.parquet"):
        write([], tmp_path / "p.csv")


# ------------------------------------------------------------------------------------------------- bad JSONL


@pytest.mark.parametrize(
    "bad, reason",
    [
        (b"{", "not JSON"),
        (b"\x00\xff\xfe\x01\x80", "not UTF-8"),
        (b'{"id" "b"}', "not JSON: Expecting ':' delimiter at character 6"),
        (line().decode().encode("utf-16-le"), "not JSON"),
        (line()[:-1] + b"\x00}", "not JSON"),
        (b'{"id": "b", "prompt": "\xff"}', "not UTF-8"),
        (line(meta={"x": math.nan}), "NaN is no JSON value"),
        (line(meta={"x": -math.inf}), "-Infinity is no JSON value"),
        (b'{"id": "b", "domain": "m", "prompt": "?", "gold": "1", "meta": {"x": 1e999}}', "JSON compliant"),
        (b'{"id": "b", "domain": "m", "prompt": "\\ud800", "gold": "1"}', "half a surrogate pair"),
        (b'{"id": "b", "domain": "m", "prompt": "?", "gold": "1", "meta": {"x": "\\udfff"}}', "half a surrogate pair"),
        (b'{"x": ' + b"9" * 5000 + b"}", "not JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[1]", "not an object but list"),
        (b'"text"', "not an object but str"),
        (line("b", gold=None), "neither gold nor tests"),
        (line("b", gold=""), "an empty gold answer"),
        (line("b", gold=[]), "neither gold nor tests"),
        (line("b", gold=None, tests={}), "neither gold nor tests"),
        (line("b", gold=None, tests=[]), "neither gold nor tests"),
        (line("b", tests={"inputs": ["1"]}), "both gold and tests"),
        (line("b", gold=7), "gold"),
        (line("b", prompt=" \n"), "the prompt is empty"),
        (line(""), "id: String should have at least 1 character"),
        (line("b", difficulty={"m": {"solved": 3, "samples": 2}}), "solved = 3 of only 2 samples"),
        (line("b", promt="?"), "no field 'promt' (did you mean 'prompt'?)"),
        (line("a"), "the id 'a' is taken by line 1"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_line_that_is_no_problem_costs_itself_alone(bad, reason, tmp_path):
    path = put(tmp_path / "p.jsonl", line("a"), bad, line("c"))
    loaded = read(path)
    assert ids(loaded) == ["a", "c"]
    (skipped,) = loaded.skipped
    assert skipped.number == 2 and reason in skipped.reason
    assert len(skipped.reason) <= 200 and skipped.reason.isprintable()
    with pytest.raises(UsageError, match="p.jsonl, line 2 is no problem: "):
        list(read(path, strict=True))


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r", b"\n\n", b" \r\n\n"])
def test_line_ends_of_any_kind(end, tmp_path):
    inside = "a\u2028b\u2029c\u0085d\x1ce\vf\x00"
    path = put(tmp_path / "p.jsonl", line("a", prompt=inside), json.dumps(
        {"id": "b", "domain": "math", "prompt": inside, "gold": "½"}, ensure_ascii=False
    ).encode(), end=end)  # fmt: skip
    found = list(read(path, strict=True))
    assert [problem.prompt for problem in found] == [inside, inside]


def test_mixed_ends_marks_and_no_last_end(tmp_path):
    path = tmp_path / "p.jsonl"
    first = b"\xef\xbb\xbf" + line("a") + b"\r\n" + line("b") + b"\r"
    path.write_bytes(first + b"?\n" + line("c") + b"\n\r\n" + line("d"))
    loaded = read(str(path))
    assert ids(loaded) == ["a", "b", "c", "d"]
    assert [skipped.number for skipped in loaded.skipped] == [3]


def test_a_line_beyond_all_bounds_costs_itself_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(load, "LONGEST", 1 << 20)
    long, junk = line("b", prompt="x" * (5 << 20)), b"\xff" * (3 << 20)
    path = put(tmp_path / "p.jsonl", line("a"), long, line("c"), junk, line("d"))
    loaded = read(path)
    assert ids(loaded) == ["a", "c", "d"]
    assert loaded.skipped == [Skipped(2, "longer than 1 MiB"), Skipped(4, "longer than 1 MiB")]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_reading_is_a_stream(suffix, tmp_path):
    path = tmp_path / f"p{suffix}"
    long = (Problem(id=str(i), domain="math", prompt=f"{i} " * 20_000, gold="1") for i in range(1000))
    assert write(long, path) == 1000
    next(read(str(path)))  # imports
    tracemalloc.start()
    try:
        loaded = read(str(path))
        assert sum(len(problem.prompt) for problem in loaded) > 50_000_000
        assert tracemalloc.get_traced_memory()[1] < 16_000_000
    finally:
        tracemalloc.stop()


def test_what_was_skipped_is_known_as_far_as_read(tmp_path):
    loaded = read(put(tmp_path / "p.jsonl", b"{", line("a"), b"{", line("b")))
    assert loaded.skipped == [] and next(loaded).id == "a"
    assert len(loaded.skipped) == 1 and ids(loaded) == ["b"] and len(loaded.skipped) == 2


# ------------------------------------------------------------------------------------------------- parquet


def frame(path: Path, *rows: dict) -> str:
    pd.DataFrame(list(rows)).to_parquet(path)
    return str(path)


BASE = {"domain": "math", "prompt": "?"}


def test_a_plain_parquet_of_others_is_read(tmp_path):
    path = frame(
        tmp_path / "p.parquet",
        {"id": "a", **BASE, "gold": "1", "source": None, "meta": {"level": 2}},
        {"id": "b", **BASE, "gold": '"quoted"', "source": "web", "meta": {"level": 3}},
    )
    first, second = read(path, strict=True)
    assert (first.gold, first.source, first.meta) == ("1", "", {"level": 2})
    assert (second.gold, second.source) == ('"quoted"', "web")
    path = frame(tmp_path / "l.parquet", {"id": "a", **BASE, "gold": ["1", "2"]}, {"id": "b", **BASE, "gold": ["3"]})
    assert [problem.gold for problem in read(path, strict=True)] == [["1", "2"], ["3"]]


def test_nan_is_a_missing_value(tmp_path):
    path = frame(tmp_path / "p.parquet", {"id": "a", **BASE, "gold": math.nan})
    loaded = read(path)
    assert ids(loaded) == [] and loaded.skipped == [Skipped(1, "neither gold nor tests")]
    columns = {"id": ["a"], "domain": ["math"], "prompt": ["?"], "gold": ["1"], "solution": [math.nan]}
    pq.write_table(pa.table(columns), path)  # pandas would have written null
    assert [problem.solution for problem in read(path, strict=True)] == [None]


def test_rows_that_are_no_problems_are_named_in_parquet_too(tmp_path):
    rows = [{"id": i, **BASE, "gold": gold} for i, gold in [("a", "1"), ("b", ""), ("a", "2"), ("c", "3")]]
    loaded = read(frame(tmp_path / "p.parquet", *rows))
    assert ids(loaded) == ["a", "c"]
    assert [(row.number, row.reason) for row in loaded.skipped] == [
        (2, "an empty gold answer"), (3, "the id 'a' is taken by row 1"),
    ]  # fmt: skip


def test_a_damaged_parquet_is_one_clear_error(tmp_path):
    path = tmp_path / "p.parquet"
    path.write_bytes(b"PAR1" + bytes(1000))
    with pytest.raises(Or1labError, match=r"p\.parquet is no readable parquet file"):
        read(str(path))
    write([Problem(id="a", domain="math", prompt="?", gold="1")], path)
    path.write_bytes(path.read_bytes().replace(b"licence", b"\xfe\xffcence"))
    with pytest.raises(Or1labError, match=r"p\.parquet is no readable parquet file"):
        read(str(path))
    many = [Problem(id=str(i), domain="math", prompt=f"{hash(str(i))}" * 50, gold="1") for i in range(2000)]
    write(many, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 3] + bytes(len(whole) // 3) + whole[2 * (len(whole) // 3) :])
    with pytest.raises(Or1labError, match=r"p\.parquet (breaks off after row \d+|is no readable)"):
        list(read(str(path)))


# ------------------------------------------------------------------------------------------------- names


def test_neither_file_nor_set(tmp_path):
    with pytest.raises(UsageError, match="no file 'math50', and no published set of that name .did you mean 'math500'"):
        read("math50")
    with pytest.raises(UsageError, match="is a folder"):
        read(str(tmp_path))
    with pytest.raises(UsageError, match=r"a file has no options \(split\)"):
        read(put(tmp_path / "p.jsonl", line()), options={"split": "test"})
