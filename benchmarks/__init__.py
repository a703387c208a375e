"""Speed and memory as ratios to stock TRL on the same work in the same run; `results/` holds what they last printed.

    python -m benchmarks.update    the update phase
    python -m benchmarks.step      a whole training step
    python -m benchmarks.memory    peak memory of the output layer at a real vocabulary
"""

import or1lab  # noqa: F401  # before torch: it sets environment variables that torch reads
