"""Published sets as problems: `huggingface_hub` fetches a set's files, `datasets` reads them, `published.py` converts.

Files come from the Hub's cache (which `hf download` fills as well) or, with the option `file`, from a file or folder.
Problems have the set's own ids, else a hash of the prompt, so that an id survives a new order of the rows.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from or1lab.data.load import check, shorten
from or1lab.data.problem import Problem
from or1lab.data.published import SETS, PublishedSet, Row
from or1lab.errors import Or1labError, UsageError, check_names, did_you_mean

BUILDERS = {".parquet": "parquet", ".jsonl": "json", ".json": "json", ".arrow": "arrow"}


def find(name: str) -> str:
    """The registry's name of a set, given that or its name on the Hub. Raises UsageError for an unknown one."""
    if name in SETS:
        return name
    same = [ours for ours, published in SETS.items() if published.hub.lower() == name.lower()]
    if len(same) == 1:
        return same[0]
    if same:
        raise UsageError(f"'{name}' is several sets here: {' or '.join(same)}")
    near = did_you_mean(name, [*SETS, *(published.hub for published in SETS.values())])
    raise UsageError(f"no file '{name}', and no published set of that name{near}; sets: {', '.join(SETS)}")


def rows(name: str, options: Mapping[str, Any]) -> tuple[Iterator[tuple[int, Problem | str]], int]:
    """The rows of a published set, each with its number: a problem, or why it is none; and how many will come.

    Args:
        options: `file`, where the set's files lie instead of on the Hub (one file, or a folder with the set's layout);
            `split`, default the set's first; `subsets` of numinamath ("paper", or names); `window` of livecodebench.
            Rows that are not asked for do not come, but are numbered and are part of the total.

    Raises:
        UsageError: unknown set, split or option. Or1labError: no files, no readable ones, or a column that is missing.
    """
    name = find(name)
    published = SETS[name]
    check_names(options, ["file", "split", *published.only], f"option of {name}")
    split = options.get("split", next(iter(published.splits)))
    check_names([split], published.splits, f"split of {name}")
    wanted = [only(options[option]) for option, only in published.only.items() if option in options]
    patterns = published.splits[split]
    table = _read(name, _files(name, published, patterns, options.get("file")))

    def problems() -> Iterator[tuple[int, Problem | str]]:
        seen: Counter[str] = Counter()
        for number, row in enumerate(table, 1):
            try:
                if all(want(Row(row)) for want in wanted):
                    yield number, _problem(name, published, Row(row), seen)
            except Or1labError as error:  # a column is missing: so it is in all rows
                raise Or1labError(f"{name} ({published.hub}): {error}") from None

    return problems(), len(table)


def _problem(name: str, published: PublishedSet, row: Row, seen: Counter[str]) -> Problem | str:
    try:
        fields = published.convert(row)
        if not isinstance(fields["prompt"], str):
            return "the prompt is no text"
        own = fields.get("id") or hashlib.blake2b(fields["prompt"].encode(), digest_size=8).hexdigest()
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        return shorten(str(error) or type(error).__name__)
    seen[own] += 1  # the same prompt again is for curation to judge
    repeated = f"-{seen[own]}" if seen[own] > 1 and "id" not in fields else ""
    origin = {"id": f"{name}-{own}{repeated}", "domain": published.domain}
    return check(fields | origin | {"source": published.hub, "licence": published.licence})


def _files(name: str, published: PublishedSet, patterns: tuple[str, ...], given: str | None) -> list[Path]:
    if given is not None:
        folder = Path(given).expanduser()
        if folder.is_file():
            return [folder]
        if not folder.is_dir():
            raise UsageError(f"no file or folder '{given}'")
    else:
        folder = _download(name, published, patterns)
    found = {pattern: sorted(folder.glob(pattern)) for pattern in patterns}
    if missing := [pattern for pattern, files in found.items() if not files]:
        raise Or1labError(f"{folder} has no {', no '.join(missing)}; {_mend(name, published, patterns)}")
    return [file for files in found.values() for file in files]


def _download(name: str, published: PublishedSet, patterns: tuple[str, ...]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return Path(snapshot_download(published.hub, repo_type="dataset", allow_patterns=list(patterns)))
    except (OSError, ValueError, HfHubHTTPError) as error:
        reason = shorten(str(error))
        raise Or1labError(f"{published.hub} cannot be fetched ({reason}); {_mend(name, published, patterns)}") from None


def _mend(name: str, published: PublishedSet, patterns: tuple[str, ...]) -> str:
    include = " ".join(f"--include '{pattern}'" for pattern in patterns)
    return (
        f"where there is a network: hf download --repo-type dataset {published.hub} {include} "
        f"--local-dir DIR, and here: or1lab data stats {name} file=DIR (a recipe: data.options.file=DIR)"
    )


def _read(name: str, files: list[Path]) -> Any:
    import datasets

    kinds = {BUILDERS.get(path.suffix) for path in files}
    kind = next(iter(kinds))
    if len(kinds) > 1 or kind is None:
        raise UsageError(f"{files[0]} is none of {', '.join(BUILDERS)}")
    try:
        return datasets.load_dataset(kind, data_files=list(map(str, files)), split="train")
    except Exception as error:  # of many kinds, from three libraries
        reason = shorten(str(error.__cause__ or error))
        raise Or1labError(f"{name}: {files[0]} cannot be read: {reason}") from None
