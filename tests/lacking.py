"""What a machine may lack, as marks of the tests that need it."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from or1lab.rewards import sandbox

needs_bubblewrap = pytest.mark.skipif(not sandbox.layers()["bubblewrap"], reason="bubblewrap does not work here")
needs_vllm = pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed")
