from .runs import RunFolder
from .sweeps import SweepFolder

__all__ = ["RunFolder", "SweepFolder"]
