"""Suites: what is asked in an evaluation, how often, and under which limits (`experiments/suites/*.yaml`).

A suite is versioned: its version rises with any change that could change a result. Its problems come from a published
set, a generator, or a file. What it needs from the Hub may lie here instead, see `local_file`: a file of problems
(docs/data.md), of questions with answers or functions with tests (`data/plain.py`), or of the set's own rows.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from or1lab.data import load, plain
from or1lab.data.problem import Problem
from or1lab.data.published import SETS
from or1lab.errors import Or1labError, UsageError, check_names, did_you_mean
from or1lab.manifest import file_hash
from or1lab.process import cache_folder
from or1lab.recipe import ROOT, read_yaml
from or1lab.recipe_errors import checked
from or1lab.recipe_parts import Positive, Strict
from or1lab.sources import GENERATED

SUITES = ROOT / "experiments" / "suites"
KINDS = (".jsonl", ".parquet")  # files of problems


class Band(Strict):
    """A part of a generated suite, of its own difficulty; its problems say `band` in their meta."""

    n: Positive
    options: dict[str, Any] = {}
    note: str = ""


class Suite(Strict):
    """One suite.

    Attributes:
        version: of a suite of ours a number; of a file of problems the start of its SHA-256.
        set, generate, file: where the problems come from; one of them.
        options: of the published set.
        bands, seed: of the generator, which gives its test split.
        apart: arguments of the generator for the problems that training looks at (its held-out ones): never in here.
        count: problems there should be; another number is warned of.
        k, temperature, top_p, limit: samples a problem, how they are drawn; limit on the response, in tokens.
        suffixes: name -> text behind each question; `suffix` says which is taken.
    """

    name: str
    version: int | str
    title: str
    domain: str
    set: str | None = None
    generate: str | None = None
    file: str | None = None
    options: dict[str, Any] = {}
    bands: dict[str, Band] = {}
    seed: int = 0
    apart: dict[str, Any] | None = None
    count: Positive | None = None
    k: Positive
    temperature: float = Field(ge=0)
    top_p: float = Field(gt=0, le=1)
    limit: Positive
    suffixes: dict[str, str] = {}
    suffix: str | None = None
    licence: str = ""

    @model_validator(mode="after")
    def _consistent(self) -> Suite:
        if [self.set, self.generate, self.file].count(None) != 2:
            raise ValueError("a suite has one of: set, generate, file")
        if self.generate is not None and self.generate not in GENERATED:
            raise ValueError(f"no generator '{self.generate}'{did_you_mean(self.generate, GENERATED)}")
        if self.set is not None and self.set not in SETS:
            raise ValueError(f"no published set '{self.set}'{did_you_mean(self.set, SETS)}")
        if bool(self.generate) != bool(self.bands):
            raise ValueError("a generated suite has bands, no other has")
        if (self.suffix is None) != (not self.suffixes):
            raise ValueError("suffixes and suffix: both or neither")
        if self.suffix is not None and self.suffix not in self.suffixes:
            raise ValueError(f"no suffix '{self.suffix}'; there are: {', '.join(self.suffixes)}")
        return self

    @property
    def prompt_suffix(self) -> str:
        """The text behind each question."""
        return self.suffixes[self.suffix] if self.suffix is not None else ""

    @property
    def size(self) -> int | None:
        """How many problems there should be, where that is known without reading them."""
        return sum(band.n for band in self.bands.values()) if self.bands else self.count

    @property
    def local_file(self) -> Path | None:
        """The file that is read instead of the Hub: the option `file`, else a file in the cache that is there."""
        if self.file is not None or self.set is None:
            return None if self.file is None else Path(self.file).expanduser()
        if "file" in self.options:
            return Path(self.options["file"]).expanduser()
        return next((path for kind in KINDS if (path := place(self.name, kind)).is_file()), None)

    def record(self) -> dict[str, Any]:
        """What a result says of the suite that it was measured on."""
        local = self.local_file
        origin = {"file": str(local), "sha256": file_hash(local)[:12]} if local and local.is_file() else {}
        return {
            "suite": self.name, "version": self.version, "k": self.k, "temperature": self.temperature,
            "top_p": self.top_p, "limit": self.limit, "suffix": self.suffix, "prompt_suffix": self.prompt_suffix,
            "options": dict(self.options), **origin,
        }  # fmt: skip

    def problems(self) -> list[Problem]:
        """The problems, in order, with the suffix behind each question. The same at every call.

        Raises:
            UsageError: a row is no problem (no answer, an id that is taken ...); none at all.
            Or1labError: neither the Hub nor a local file gives the published set.
        """
        found = self._generated() if self.generate else self._read()
        if not found:
            raise UsageError(f"the suite {self.name} has no problem")
        if self.size not in (None, len(found)):
            warnings.warn(f"{self.name}: {len(found)} problems; the whole suite has {self.size}", stacklevel=2)
        if not self.suffixes:
            return found
        return [problem.model_copy(update={"prompt": self._asked(problem.prompt)}) for problem in found]

    def _asked(self, question: str) -> str:
        for text in self.suffixes.values():  # some files bring it along
            question = question.removesuffix(text) if text else question
        return question + self.prompt_suffix

    def _generated(self) -> list[Problem]:
        generate = importlib.import_module(f"or1lab.data.{self.generate}").problems
        taken = {problem.prompt for problem in generate("test", **self.apart)} if self.apart else set()
        found: list[Problem] = []
        for name, band in self.bands.items():
            drawn, fresh = 0, list[Problem]()
            while len(fresh) < band.n:  # a longer draw begins with the shorter one
                drawn += band.n - len(fresh)
                try:
                    draw = generate("test", drawn, seed=self.seed, **band.options)
                except (TypeError, ValueError) as error:
                    raise UsageError(f"the band '{name}' of the suite {self.name}: {error}") from None
                fresh = [problem for problem in draw if problem.prompt not in taken]
            found += [p.model_copy(update={"meta": {**p.meta, "band": name}}) for p in fresh[: band.n]]
        return found

    def _read(self) -> list[Problem]:
        local = self.local_file
        if local is not None and local.suffix in KINDS and not _has_rows_of(self.set, local):
            if not local.is_file():
                raise UsageError(f"no file '{local}'")
            return list(load.read(str(local), strict=True, fields=plain.fields))
        assert self.set is not None
        options = self.options if local is None else self.options | {"file": str(local)}
        try:
            return list(load.read(self.set, strict=True, options=options))
        except Or1labError as error:
            if "file" in options:
                raise
            chosen = "".join(f" {key}={value}" for key, value in self.options.items())
            raise type(error)(
                f"{error}; an evaluation: --suite {self.name} file=DIR. Or put the problems into {place(self.name)}, "
                f"which is then read instead: one JSON object a line, {_shape(self.domain)}; or1lab data convert "
                f"{self.set}{chosen} file=DIR --out {place(self.name)} makes it and leaves out what is no problem"
            ) from None


def names() -> list[str]:
    """The suites of `experiments/suites`."""
    return sorted(path.stem for path in SUITES.glob("*.yaml"))


def place(name: str, kind: str = ".jsonl") -> Path:
    """Where a suite's problems may lie instead of on the Hub."""
    return cache_folder() / "suites" / f"{name}{kind}"


def load_suite(name_or_file: str | Path, options: Mapping[str, Any] | None = None) -> Suite:
    """A suite by its name, from a suite file (.yaml), or around a file of problems (.jsonl, .parquet).

    Args:
        options: of a published set its `file` (a file, or a folder with the set's layout) and any option that the suite
            sets; `suffix` where the suite has several; k, temperature, top_p, limit.

    Raises:
        UsageError: no such suite or file, unknown option or key (names the nearest), impossible value.
    """
    name, options = str(name_or_file), dict(options or {})
    path = Path(name).expanduser()
    if name in names():
        content = read_yaml(SUITES / f"{name}.yaml")
    elif path.is_file() and path.suffix in KINDS:
        content = _around(path)
    elif path.is_file() and path.suffix in (".yaml", ".yml"):
        content = read_yaml(path)
        if isinstance(content.get("file"), str):  # beside the suite file
            content["file"] = str(path.parent / Path(content["file"]).expanduser())
    else:
        raise UsageError(
            f"no suite '{name}'{did_you_mean(name, names())}; there are: {', '.join(names())}; or give a suite file "
            "(.yaml) or a file of problems (.jsonl, .parquet)"
        )
    suite = checked(Suite, content, f"the suite {name}")
    own = [*(["file"] if suite.set else []), *suite.options]
    known = [*own, *(["suffix"] if suite.suffixes else []), "k", "temperature", "top_p", "limit"]
    check_names(options, known, f"option of the suite {suite.name}")
    inner = {key: options.pop(key) for key in list(options) if key in own}
    content |= options | {"options": {**suite.options, **inner}}
    return checked(Suite, content, f"the suite {name}")


def template_hash(tokenizer: Any, suffix: str = "") -> str:
    """Hash of what stands around a question: the tokenizer's chat template (its source) and the suffix."""
    whole = json.dumps([getattr(tokenizer, "chat_template", None), suffix])
    return hashlib.sha256(whole.encode()).hexdigest()[:16]


def _around(path: Path) -> dict[str, Any]:
    """A suite of a file's problems, with the paper's settings."""
    title = f"{path.name}, a file of problems"
    settings = {"k": 4, "temperature": 1.0, "top_p": 1.0, "limit": 32768}
    version = file_hash(path)[:12]
    return {"name": path.stem, "version": version, "title": title, "domain": "any", "file": str(path), **settings}


def _shape(domain: str) -> str:
    return "with id, problem and answer" if domain == "math" else "a problem as in docs/data.md"


def _has_rows_of(name: str | None, path: Path) -> bool:
    """Whether that file's first row has the columns of the published set."""
    if name is None or not path.is_file():
        return False
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        try:
            columns = set(pq.read_schema(path).names)
        except (OSError, ValueError) as error:
            raise Or1labError(f"{path} is no readable parquet file: {error}") from None
    else:
        with path.open("rb") as file:
            line = next((line for line in file if line.strip()), b"{}")
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            return False  # the reader says what is wrong with it
        columns = set(row) if isinstance(row, dict) else set()
    return name in SETS and set(SETS[name].columns) <= columns
