"""or1lab: reinforcement learning of long chain-of-thought reasoners, each step of the method open to experiment."""

from or1lab.process import prepare

__version__ = "0.1.0"

prepare()
