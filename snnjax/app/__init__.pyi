from .comparisons import draw_sweep as draw_sweep
from .report import draw_run as draw_run
