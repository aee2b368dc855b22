from .runs import RunFolder, SweepFolder

__all__ = ["RunFolder", "SweepFolder"]
