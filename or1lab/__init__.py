"""or1lab: reinforcement learning of long chain-of-thought reasoners, each step of the method open to experiment."""

__version__ = "0.1.0"
