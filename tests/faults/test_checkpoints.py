"""A run goes on from its newest whole checkpoint: a damaged one is named and skipped, and the numbers stay the same."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pandas as pd
import pytest

from or1lab import lineage, train
from or1lab.magic.checkpoints import SEAL, STATE, checkpoints, damage, newest_whole, prune
from or1lab.recipe import load_recipe
from or1lab.store import Run

SMALL = Path(__file__).parent.parent / "small.yaml"
RECIPE = load_recipe(
    SMALL, ["D_T=2", "lr=1e-3", "entropy=paper", "tgt_ent=2.0", "delta=0.01", "checkpoint={every: 1, keep: 4}"]
)


@pytest.fixture(scope="module")
def whole(engine, tmp_path_factory) -> Run:
    """A run of four steps with all its checkpoints."""
    return train.run(RECIPE, tmp_path_factory.mktemp("whole") / "run", engine=engine, progress=False)


@pytest.fixture
def stopped(whole, tmp_run) -> Run:
    """A copy that did not get to its end."""
    shutil.copytree(whole.folder, tmp_run)
    run = Run.open(tmp_run)
    run.update_manifest(status="failed")
    return run


def truncated(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def flipped(path: Path, place: float = 0.6) -> None:
    content = bytearray(path.read_bytes())
    content[int(len(content) * place)] ^= 1
    path.write_bytes(content)


def emptied(path: Path) -> None:
    path.write_text("{}")


def assert_same(run: Run, other: Run) -> None:
    ours, theirs = (r.metrics.loc[:, ~r.metrics.columns.str.match("time/|tokens_per_s|memory/")] for r in (run, other))
    pd.testing.assert_frame_equal(ours, theirs, check_exact=True)
    for path in (*run.folder.glob("*/*.parquet"), run.folder / "checkpoints" / "final" / "model.safetensors"):
        assert path.read_bytes() == (other.folder / path.relative_to(run.folder)).read_bytes()


@pytest.mark.parametrize(
    ("harm", "name"),
    [
        (truncated, "model.safetensors"),
        (flipped, "optimizer.pt"),
        (Path.unlink, "rng_state.pth"),
        (truncated, STATE),
        (emptied, STATE),
        (truncated, SEAL),
        (emptied, SEAL),
        (Path.unlink, SEAL),
    ],
)
def test_a_damaged_checkpoint_is_named_and_skipped(harm, name, engine, whole, stopped):
    newest = stopped.folder / "checkpoints" / "checkpoint-4"
    harm(newest / name)
    with pytest.warns(UserWarning, match=rf"checkpoint-4 is damaged \({name}.*: the run goes on from checkpoint-3"):
        run = train.run(RECIPE, stopped.folder, resume=True, engine=engine, progress=False)
    assert_same(run, whole)
    assert damage(newest) is None  # written anew


def test_several_damaged_ones_are_all_named(engine, whole, stopped):
    flipped(stopped.folder / "checkpoints" / "checkpoint-4" / "scheduler.pt")
    (stopped.folder / "checkpoints" / "checkpoint-3" / "trainer_state.json").unlink()
    named = r"checkpoint-4 is damaged \(scheduler.pt.*checkpoint-3 is damaged \(trainer_state.json is missing\)"
    with pytest.warns(UserWarning, match=named + ": the run goes on from checkpoint-2"):
        run = train.run(RECIPE, stopped.folder, resume=True, engine=engine, progress=False)
    assert_same(run, whole)


def test_without_a_whole_one_the_run_starts_again_and_says_so(engine, whole, stopped):
    for checkpoint in checkpoints(stopped.folder / "checkpoints"):
        flipped(checkpoint / "model.safetensors")
    with pytest.warns(UserWarning, match=r"checkpoint-1 is damaged .*: the run starts from its beginning"):
        run = train.run(RECIPE, stopped.folder, resume=True, engine=engine, progress=False)
    assert_same(run, whole)


@pytest.mark.parametrize("place", [0.0, 0.3, 0.999])
def test_a_flipped_bit_is_found_in_every_file(place, stopped):
    checkpoint = stopped.folder / "checkpoints" / "checkpoint-2"
    files = sorted(checkpoint.iterdir())
    assert len(files) > 8 and damage(checkpoint) is None
    for path in files:
        content = path.read_bytes()
        flipped(path, place)
        assert path.name == SEAL and damage(checkpoint) or path.name in damage(checkpoint)
        path.write_bytes(content)
    assert damage(checkpoint) is None


def test_only_what_is_older_makes_room(stopped):
    """A damaged checkpoint further on must not count as one of those kept."""
    folder = stopped.folder / "checkpoints"
    flipped(folder / "checkpoint-4" / "model.safetensors")
    (folder / "checkpoint-3.bak").mkdir()  # somebody's own
    lineage.mark(str(folder / "checkpoint-1"), stopped.folder.with_name("child"))  # another run started from it
    prune(folder, step=3, keep=1)
    assert [path.name for path in checkpoints(folder)] == ["checkpoint-1", "checkpoint-3", "checkpoint-4"]
    with pytest.warns(UserWarning, match="goes on from checkpoint-3"):
        assert newest_whole(folder) == folder / "checkpoint-3"
    assert newest_whole(stopped.folder / "nothing") is None


def test_a_sitting_killed_before_its_first_record_adds_no_time(engine, stopped):
    """What the records of a killed sitting tell is counted once, however often the run is taken up again."""
    stopped.log("sgd", step=5, sgd_step=0)
    stopped.log("step", step=5, **{"time/elapsed": 1000.0})
    stopped.update_manifest(status="running", seconds=None)  # as a SIGKILL in the first sitting leaves it
    assert train._seconds_before(stopped) == 1000.0
    stopped.update_manifest(seconds=1000.0)  # the second sitting begins, and is killed as well
    assert train._seconds_before(stopped) == 1000.0
    stopped.truncate_after(4)
    assert train._seconds_before(stopped) == 1000.0
    run = train.run(RECIPE, stopped.folder, resume=True, engine=engine, progress=False)
    assert 1000 < run.metrics["time/elapsed"].iloc[-1] < run.manifest["seconds"] < 1100


def test_another_number_of_threads_is_warned_of(stopped, engine):
    hardware = stopped.manifest["hardware"]
    stopped.update_manifest(hardware=hardware | {"threads": 3})
    with pytest.warns(UserWarning, match="begun with 3 threads and goes on with 1"):
        run = train.run(RECIPE, stopped.folder, resume=True, engine=engine, progress=False)
    assert run.manifest["hardware"]["threads"] == 1
