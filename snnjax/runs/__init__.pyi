from .run_folder import RunFolder
from .sweep_folder import SweepFolder
from .trained import Trained, load

__all__ = ["RunFolder", "SweepFolder", "Trained", "load"]
