from .comparisons import draw_sweep
from .report import draw_run

__all__ = ["draw_run", "draw_sweep"]
