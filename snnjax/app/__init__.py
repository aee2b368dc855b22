"""What commands need beyond the library: folders of runs and sweeps, reports, options, progress in a terminal.

`RunFolder` and `SweepFolder` serve scripts of your own as well.
"""

from snnjax.app.runs import RunFolder as RunFolder
from snnjax.app.runs import SweepFolder as SweepFolder
