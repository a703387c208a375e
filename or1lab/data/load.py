"""Problems from and to files (JSONL, parquet), and from published sets (`hub.py`).

Reading is a stream. A row that is no problem is skipped, and said to be: `Loaded.skipped` holds its number and the
reason. What bounds the memory is the longest row, and the ids of those before it.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from pydantic import ValidationError

from or1lab.data.problem import Problem
from or1lab.errors import Or1labError, UsageError, did_you_mean

LONGEST = 1 << 28  # bytes of a line; no published problem, tests included, comes near
JSON_COLUMNS = ("gold", "tests", "difficulty", "meta")  # in parquet; the others are plain texts
GROUP = 1 << 26  # characters of a row group, which is held in memory
COLUMNS = tuple(Problem.model_fields)


@dataclass(frozen=True)
class Skipped:
    """A row that gave no problem: its number in the file or set, from 1, and why."""

    number: int
    reason: str


class Loaded:
    """The problems of a file or set, read once, in order, while it is iterated; `skipped` grows meanwhile.

    With `strict`, the first row that is no problem raises UsageError. `total` rows will come; where that is not known,
    they are the lines of a file."""

    def __init__(
        self, name: str, rows: Iterable[tuple[int, Problem | str]], *, strict: bool = False, total: int | None = None
    ) -> None:
        self.name, self.strict, self.total = name, strict, total
        self.unit = "line" if total is None else "row"
        self.skipped: list[Skipped] = []
        self._rows = iter(rows)
        self._seen: dict[str, int] = {}  # id -> number of its row

    def __iter__(self) -> Iterator[Problem]:
        return self

    def __next__(self) -> Problem:
        for number, found in self._rows:
            if isinstance(found, Problem) and (first := self._seen.setdefault(found.id, number)) != number:
                found = f"the id '{found.id}' is taken by {self.unit} {first}"
            if isinstance(found, Problem):
                return found
            if self.strict:
                raise UsageError(f"{self.name}, {self.unit} {number} is no problem: {found}")
            self.skipped.append(Skipped(number, found))
        raise StopIteration


Fields = Callable[[Mapping[str, Any]], Mapping[str, Any]]  # of a row, those of a problem; ValueError: it is none


def read(
    path_or_set: str, *, strict: bool = False, options: Mapping[str, Any] | None = None, fields: Fields | None = None
) -> Loaded:
    """The problems of a JSONL or parquet file, or of a published set by its name (its options: see `hub.rows`).

    A file has problems as rows, or rows that `fields` makes into such.

    Raises UsageError for a name that is neither, and for options with a file; Or1labError if the file cannot be read.
    """
    from or1lab.data import hub

    path = Path(path_or_set).expanduser()
    if path.is_file():
        if options:
            raise UsageError(f"a file has no options ({', '.join(options)}); published sets have")
        if path.suffix == ".parquet":
            rows, total = _parquet(path, fields)
            return Loaded(path_or_set, rows, strict=strict, total=total)
        return Loaded(path_or_set, _jsonl(path, fields), strict=strict)
    if path.is_dir():
        raise UsageError(f"{path} is a folder; give a JSONL or parquet file of problems")
    published, number = hub.rows(path_or_set, options or {})
    return Loaded(path_or_set, published, strict=strict, total=number)


def write(problems: Iterable[Problem], path: str | Path) -> int:
    """Write a .jsonl or .parquet file, whole or not at all, from which `read` gives the same problems; their number.

    Raises UsageError for another kind of file, Or1labError for a problem that holds what JSON cannot (NaN, half a
    surrogate pair, objects)."""
    path = Path(path)
    if path.suffix not in (".jsonl", ".parquet"):
        raise UsageError(f"'{path}' is neither a .jsonl nor a .parquet file")
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        count = (_write_parquet if path.suffix == ".parquet" else _write_jsonl)(problems, aside)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    return count


# ------------------------------------------------------------------------------------------------- one row


def parse(line: bytes, fields: Fields | None = None) -> Problem | str:
    """The problem that a line holds, or why it is none."""
    try:
        row = json.loads(line.decode("utf-8-sig"), parse_constant=_refuse)
    except RecursionError:
        return "nested too deeply"
    except UnicodeDecodeError:
        return "not UTF-8"
    except json.JSONDecodeError as error:
        return f"not JSON: {error.msg} at character {error.pos}"
    except ValueError as error:  # a constant, or an endless number
        return f"not JSON: {shorten(str(error))}"
    return check(row, fields) if isinstance(row, dict) else f"not an object but {type(row).__name__}"


def check(row: dict[str, Any], fields: Fields | None = None) -> Problem | str:
    """The problem of that row, or why it is none."""
    try:
        problem = Problem.model_validate(fields(row) if fields else row)
        as_json(problem)  # raises for what could not be written again
        return problem
    except ValidationError as error:
        return shorten("; ".join(map(_fault, error.errors(include_url=False, include_context=False))))
    except UnicodeEncodeError:
        return "half a surrogate pair"
    except (ValueError, TypeError, RecursionError) as error:
        return shorten(str(error))


def as_json(problem: Problem) -> bytes:
    """The problem as one line without its end. Raises ValueError or TypeError for what JSON cannot hold."""
    return _dump(problem.model_dump(exclude_defaults=True))


def _dump(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode()


def _refuse(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON value")


def _fault(error: Any) -> str:
    where = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden":
        return f"no field '{where}'{did_you_mean(where, COLUMNS)}"
    return f"{where}: {error['msg']}" if where else str(error["msg"]).removeprefix("Value error, ")


def shorten(text: str) -> str:
    """One printable line of at most 200 characters."""
    text = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return text if len(text) <= 200 else text[:199] + "…"


# ------------------------------------------------------------------------------------------------- JSONL


def _jsonl(path: Path, fields: Fields | None) -> Iterator[tuple[int, Problem | str]]:
    # One character a byte, so that no junk raises and only \n, \r and \r\n end a line: U+2028 stands within strings.
    with path.open(encoding="latin-1", newline=None) as file:
        number = 0
        while line := file.readline(LONGEST):
            number += 1
            if len(line) == LONGEST and line[-1] != "\n":
                while (rest := file.readline(LONGEST)) and rest[-1] != "\n":
                    pass
                yield number, f"longer than {LONGEST >> 20} MiB"
            elif line.strip():
                yield number, parse(line.encode("latin-1"), fields)


def _write_jsonl(problems: Iterable[Problem], path: Path) -> int:
    count = 0
    with path.open("wb") as file:
        for problem in problems:
            file.write(_written(problem, as_json) + b"\n")
            count += 1
    return count


def _written(problem: Problem, how: Any) -> Any:
    try:
        return how(problem)
    except (ValueError, TypeError, RecursionError) as error:
        raise Or1labError(f"the problem '{problem.id}' cannot be written: {error}") from None


# ------------------------------------------------------------------------------------------------- parquet


def _parquet(path: Path, fields: Fields | None) -> tuple[Iterator[tuple[int, Problem | str]], int]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    def rows() -> Iterator[tuple[int, Problem | str]]:
        number = 0
        with file:
            try:
                for batch in file.iter_batches(batch_size=64):
                    for row in batch.to_pylist():
                        number += 1
                        yield number, _row(row, coded, fields)
            except (OSError, ValueError, pa.ArrowException) as error:  # ValueError: names or texts of junk
                raise Or1labError(f"{path} breaks off after row {number}: {error}") from None

    try:
        file = pq.ParquetFile(path)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise Or1labError(f"{path} is no readable parquet file: {error}") from None
    coded = {field.name for field in file.schema_arrow if str(field.type) == "extension<arrow.json>"}
    return rows(), file.metadata.num_rows


def _row(row: dict[str, Any], coded: set[str], fields: Fields | None) -> Problem | str:
    """Of a parquet file: JSON columns decoded; null, and the NaN that pandas writes for it, is a field left out."""
    present = {n: v for n, v in row.items() if v is not None and not (isinstance(v, float) and math.isnan(v))}
    try:
        plain = {n: json.loads(v, parse_constant=_refuse) if n in coded else v for n, v in present.items()}
        return check(plain, fields)
    except (ValueError, RecursionError) as error:
        return f"not JSON: {shorten(str(error))}"


def _write_parquet(problems: Iterable[Problem], path: Path) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    # gold is a text or a list, tests and meta are anything: JSON columns keep them exactly as they are
    schema = pa.schema([(name, pa.json_() if name in JSON_COLUMNS else pa.string()) for name in COLUMNS])
    count, size = 0, 0
    rows: list[dict[str, Any]] = []

    def cells(problem: Problem) -> dict[str, Any]:
        as_json(problem)
        row = problem.model_dump()
        return row | {name: None if row[name] is None else _dump(row[name]).decode() for name in JSON_COLUMNS}

    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for problem in problems:
            rows.append(_written(problem, cells))
            count, size = count + 1, size + sum(len(cell or "") for cell in rows[-1].values())
            if size > GROUP:
                writer.write_table(pa.Table.from_pylist(rows, schema))
                rows, size = [], 0
        writer.write_table(pa.Table.from_pylist(rows, schema))
    return count
