"""What a chapter notebook of the study shows: figures by name, the arms behind them, sentences computed from the data.

The sentences give the numbers, whichever way a result falls. What has no finished run is said in a line that names the
command that makes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import yaml

from or1lab import figures, study_figures
from or1lab.captions import Captioned, caption
from or1lab.claims import study
from or1lab.claims_view import sentence
from or1lab.ledger import Entry, ledger
from or1lab.measured import Measured
from or1lab.plots.study import X, places
from or1lab.recipe import ROOT, read_yaml
from or1lab.run_statistics import STATISTICS, bonus_share
from or1lab.sheet import NOTHING, Cell, Sheet, number
from or1lab.store import Run
from or1lab.tiers import option
from or1lab.tracker import find_runs
from or1lab.world import CLAIMS, FOLLOW_UPS

READ = {"ours": "ours", "eye": "the paper's, read by eye off", "printed": "the paper's, as printed in"}


class Chapter:
    """The runs below a folder (relative to the repository) at a tier, each read when first asked for.

    Raises:
        UsageError: from whatever looks at the runs first: an unknown tier.
    """

    def __init__(self, results: str, tier: str = "tiny") -> None:
        folder = ROOT / results
        self.results = folder.relative_to(ROOT) if folder.is_relative_to(ROOT) else folder  # as it is named to readers
        self.tier = tier
        self.shelf = study_figures.Shelf(folder, tier=tier)
        self.measured = Measured(folder)
        self._made: dict[str, tuple[pd.DataFrame, figures.Draw]] = {}

    def __repr__(self) -> str:
        table = study_figures.table()
        found = {run.folder for name in table.figures for run in self._runs(table.study(name))}
        there = [run.folder for run in find_runs(self.shelf.folder) if run.manifest.get("status") == "finished"]
        told = [f"{self.results}: {len(found)} finished runs of the study, tier {self.tier}"]
        if others := len(set(there) - found):
            told.append(f"{others} others there do not count: copies, of no study, or of another world or tier")
        if not found:
            told.append(self._mend("study") if self.shelf.folder.is_dir() else "there is no such folder")
        return "; ".join(told)

    def _mend(self, name: str) -> str:
        where = "" if str(self.results) == "runs" else ' in runs: then results = "runs"'
        return f"`or1lab sweep {name}{option(self.tier)}` makes them{where}"

    def _runs(self, name: str) -> list[Run]:
        return [run for runs in self.shelf.arms(name).values() for run in runs.values()]

    def _spec(self, name: str) -> study_figures.Spec:
        return study_figures.table().spec(name).at(self.tier)

    # --------------------------------------------------------------------------------------------------- showing

    def arms(self, name: str) -> Sheet:
        """The arms of a study: what each sets, what the paper set in it, how many of its seeds are finished."""
        experiment, runs = study(name, self.tier), self.shelf.arms(name)
        paper, labels = experiment.paper, self._spec(experiment.figure).labels
        rows = {
            arm: [labels.get(arm, NOTHING), _told(own.set), _told(paper.arms.get(arm, {}) if paper else {}),
                  f"{len(runs.get(arm, {}))} of {len(experiment.seeds)}"]
            for arm, own in experiment.arms.items()
        }  # fmt: skip
        frame = pd.DataFrame.from_dict(rows, orient="index", columns=["in figures", "sets", "in the paper", "finished"])
        frame = frame.loc[:, (frame != NOTHING).any()].reset_index(names="arm")
        notes = [f"All arms: {_told(experiment.set)}."] if experiment.set else []
        if paper and paper.settings:
            notes.append(f"All of the paper's ({paper.place}): {_told(paper.settings)}.")
        cells = [list(map(Cell, row)) for row in frame.to_numpy()]
        return Sheet(list(frame), {"": cells}, experiment.title, notes, left=len(frame.columns) - 1)

    def data(self, name: str) -> pd.DataFrame:
        """The frame of a figure (study_figures.py), empty without a finished run of its study."""
        own = study_figures.table().study(name)
        if name not in self._made and self.shelf.arms(own):
            self._made[name] = figures.prepared(name, self.measured, self.shelf)
        return self._made[name][0] if name in self._made else pd.DataFrame(columns=study_figures.COLUMNS)

    def figure(self, name: str) -> Captioned | None:
        """A figure of figures.yaml with its caption; without a finished run of its study none, but a printed line."""
        if len(frame := self.data(name)):
            return Captioned(self._made[name][1](frame), caption(name, frame, self.measured, self.tier))
        own = study_figures.table().study(name)
        print(f"{study(own, self.tier).title}: no finished run in {self.results}; {self._mend(own)}.")
        return None

    # ------------------------------------------------------------------------------------------------- sentences

    @cached_property
    def entries(self) -> list[Entry]:
        """The ledger in the order of its files, where a claim may lean on the one before it."""
        order = [row["id"] for path in (CLAIMS, FOLLOW_UPS) for row in read_yaml(path)["claims"]]
        return sorted(ledger(self.shelf.folder, tier=self.tier), key=lambda entry: order.index(entry.claim.id))

    def verdicts(self, *verdicts: str) -> None:
        """Print the claims with these verdicts."""
        print("\n\n".join(sentence(entry) for entry in self.entries if entry.verdict in verdicts) or "None.")

    def say(self, name: str, *panels: str) -> None:
        """Print what is to know of a figure's runs, its claims, and where the curves of `panels` begin and end."""
        claims = (sentence(entry) for entry in self.entries if entry.claim.figure == name)
        ends = (line for panel in panels for line in self._ends(name, panel))
        print(*self._remarks(name), *claims, *ends, sep="\n\n")

    def lead(self, name: str, panel: str, one: str, other: str) -> None:
        """Print which of two arms ends higher in a panel over the steps, and since when, by the means of their runs."""
        ours = self.data(name).query("panel == @panel and read == 'ours'")
        means = ours.groupby(["series", "step"])["y"].mean().unstack("series").reindex(columns=[one, other]).dropna()
        gap, labels = means[one] - means[other], self._spec(name).labels
        if gap.empty:
            return
        end, about = gap.iloc[-1], study_figures.table().curve(name, panel).label.replace("\n", " ")
        ahead, behind = (labels.get(arm, arm) for arm in ((one, other) if end > 0 else (other, one)))
        told = f"{ahead} and {behind} end equal"
        if end:
            since = gap.index[[-1, *np.flatnonzero(gap * end <= 0)][-1] + 1]
            told = f"{ahead} ends {_number(abs(end))} above {behind}, and is above it from step {since} on"
        print(f"\n{about[0].upper()}{about[1:]}, means of the runs: {told}; a difference of means decides nothing.")

    def rank(self, x: str, y: str, *names: str) -> None:
        """Print Spearman's rank correlation of two statistics over the runs of studies: exploratory."""
        runs = {run.folder: self.shelf.measured(run) for name in names for run in self._runs(name)}
        rows = [[STATISTICS[statistic](run) for statistic in (x, y)] for run in runs.values()]
        both = pd.DataFrame(rows, columns=["x", "y"]).dropna()
        what = f"{x} and {y} over {len(both)} runs of {', '.join(names)}".replace("_", " ")
        if both.nunique().min() < 3:
            print(f"\nNo rank correlation of {what}: fewer than three different values.")
            return
        found = number(both.rank().corr().iloc[0, 1], "+.2f")
        told = f"Spearman's rank correlation of {what} is {found}"
        print(f"\nExploratory, outside the ledger: {told}; runs of an arm are not independent, so it has no p-value.")

    def _remarks(self, name: str) -> Iterator[str]:
        """What a reader of the figure has to know of its runs: missing ones, what entropy control did."""
        own, labels = study_figures.table().study(name), self._spec(name).labels
        experiment = study(own, self.tier)
        found, planned = len(self._runs(own)), len(experiment.arms) * len(experiment.seeds)
        if 0 < found < planned:
            yield f"{found} of {planned} runs are finished; a claim is looked at when all of its runs are."
        acted = []
        for arm, runs in self.shelf.arms(own).items():
            measured = [self.shelf.measured(run) for run in runs.values()]
            shares = [share for run in measured if (share := bonus_share(run)) is not None]
            if shares:
                acted.append(f"{np.mean(shares):.1%} ({labels.get(arm, arm)})")
        if acted:
            yield f"Share of the steps in which entropy control gave a bonus: {', '.join(acted)}."

    def _ends(self, name: str, panel: str) -> Iterator[str]:
        """A line of ours and one of the paper's: values at the first and the last x that all runs of an arm have."""
        spec, frame = self._spec(name), self.data(name)
        told, curve = spec.panels[spec.names.index(panel)], study_figures.table().curve(name, panel)
        for read, part in frame[frame["panel"] == panel].groupby("read", sort=False):
            label, x, whose, digits = curve.label, X.get(curve.x), READ[str(read)], "#.3g"
            if read != "ours":
                label, x = told.paper_label or label, told.paper_x or x
                whose, digits = f"{whose} {places(told.paper)}", ".3g"  # no digit that was not read
            values = []
            for arm, own in part.groupby("series", sort=False):
                points = own.groupby("step" if own["step"].notna().all() else "x")[["x", "y"]]
                mean = points.mean()[points.size() == max(1, own["seed"].nunique())].to_numpy()
                shown = mean[[0, -1]] if x else mean[:1]
                ends = [_number(y, digits) + (f" at {_number(at)}" if x else "") for at, y in shown]
                values.append(f"{', '.join(ends)} ({spec.labels.get(str(arm), arm)})")
            about = f"{told.title}: {label}" if told.title else label[0].upper() + label[1:]
            yield f"{about}{f' by {x}' if x else ''}, {whose}: {'; '.join(values)}.".replace("\n", " ")


def _number(value: float, form: str = ".3g") -> str:
    return number(value, ",.0f" if abs(value) >= 100 else form)


def _told(values: Mapping[str, Any]) -> str:
    """`D_T: 8, entropy: paper`; a dash for nothing."""
    if not values:
        return NOTHING
    return yaml.safe_dump(dict(values), default_flow_style=True, sort_keys=False, width=10**6).strip()[1:-1]
