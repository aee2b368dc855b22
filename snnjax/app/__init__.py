"""What commands need beyond the library: folders of runs and sweeps (also for your own scripts), reports, options."""

from snnjax.app.runs import RunFolder as RunFolder
from snnjax.app.runs import SweepFolder as SweepFolder
