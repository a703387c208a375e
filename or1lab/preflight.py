"""Before a run is started: does the installation work, and will the recipe fit on these GPUs? Loads no weights."""

from __future__ import annotations

import re

from or1lab import doctor
from or1lab.environment import memory_gib
from or1lab.errors import Or1labError, UsageError
from or1lab.launch import Place, visible
from or1lab.recipe import Recipe

PLANS = re.compile("--(gpus|server|no-offload)")  # options of `or1lab plan` alone
FORCE = "; --force starts it all the same"


def check(recipe: Recipe, place: Place) -> list[str]:
    """Notes of what could not be checked.

    Raises:
        Or1labError: what `or1lab doctor` finds wrong, or by how much the recipe does not fit, and what does.
    """
    needless = {"devices"}  # what it finds wrong there costs space only; the GPUs are looked at below
    if recipe.rollout.backend == "transformers" or recipe.rollout.server:
        needless.add("rollout backend")
    if recipe.model != "tiny":
        needless.add("tiny base policy")
    wrong = [check for check in doctor.examine(quick=True) if check.state == "wrong" and check.name not in needless]
    if wrong:
        told = "; ".join(f"{check.name}: {check.found} (mend: {check.mend})" for check in wrong)
        raise Or1labError(f"{told}{FORCE}")
    if (gpus := doctor.nvidia_gpus()) and doctor.torch_build() != "CPU" and not visible():
        raise Or1labError(f"torch sees none of {gpus}: look at CUDA_VISIBLE_DEVICES and the driver{FORCE}")
    return _fits(recipe, place)


def _fits(recipe: Recipe, place: Place) -> list[str]:
    from or1lab.planner.architecture import architecture
    from or1lab.planner.hardware import Cluster, device
    from or1lab.planner.lengths import law
    from or1lab.planner.memory import GIB, Layout
    from or1lab.planner.plan import Plan
    from or1lab.planner.suggest import suggestions

    try:
        a, gpu = architecture(recipe.model), device(_gpu())
    except UsageError as error:  # a model or a GPU that the planner does not know can be trained all the same
        return [f"not checked whether it fits: {error}"]
    if not gpu.is_gpu and place.several:
        return []
    own, apart = recipe.rollout, int(recipe.rollout.server is not None)
    engine = (1, False) if apart else (own.tensor_parallel, own.sleep)
    layout = Layout(*engine, place.offload, apart)
    gpus = place.processes * place.nodes + apart
    plan = Plan(recipe, a, Cluster(gpu, gpus, min(gpus, place.processes + apart)), layout, law(recipe.model))
    if apart:  # nobody here knows the server's GPUs
        missing, why = sum(plan.update.values()) / GIB - gpu.gib, "the update needs that much more than a GPU has"
    else:
        missing, why = plan.complaints[0] if plan.complaints else (0.0, "")
    if missing <= 0:
        short = plan.host_gib - (there := memory_gib())
        told = f"this machine has {there:.0f} GiB of memory, {short:.0f} less than starting takes by `or1lab plan`"
        return [f"{told}: fewer processes on each of more nodes take less"] if short > 0 else []
    here = [one.change for one in ([] if apart else suggestions(plan)) if not PLANS.search(one.change)]
    better = f"what fits: {'; or '.join(here)}" if here else "`or1lab plan` shows what would fit"
    raise Or1labError(f"does not fit, by {missing:.1f} GiB: {why}; {better}{FORCE}")


def _gpu() -> str:
    """The planner's name for the GPUs here; "cpu" where there are none.

    Raises UsageError for one that it does not know."""
    from or1lab.planner.hardware import known

    query = ("nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits")
    found = (doctor.output(*query) or "").strip()
    if not found or doctor.torch_build() == "CPU":
        return "cpu"
    name, _, mib = found.splitlines()[0].rpartition(",")
    gpus = known()["gpus"]
    bare = name.replace(" ", "").lower()
    alike = [gpu for gpu in gpus if gpu.partition("-")[0].lower() in bare]
    if not alike:
        raise UsageError(f"{name} is not in experiments/hardware.yaml")
    return min(alike, key=lambda gpu: abs(gpus[gpu]["gib"] - int(mib) / 1024))
