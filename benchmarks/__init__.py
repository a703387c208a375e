"""Speed and memory as ratios to stock TRL on the same work in the same run; `results/` holds what they last printed.

    python -m benchmarks.update    the update phase
    python -m benchmarks.step      a whole training step
    python -m benchmarks.memory    peak memory of the output layer at a real vocabulary
    python -m benchmarks.judge     the code judge, as a ratio to the same programs without isolation
    python -m benchmarks.coverage  no speed: how often the 95% intervals of the estimators hold the truth
    python -m benchmarks.ledger    nor here: how often the claims ledger errs, and what it finds

docs/benchmarks.md has the others.
"""

import contextlib
import sys

import or1lab  # noqa: F401  # before torch: it sets environment variables that torch reads

with contextlib.redirect_stdout(sys.stderr):  # on import it prints "Running in WANDB offline mode" amid our JSON
    import transformers.integrations.integration_utils  # noqa: F401
