"""The options of every command, as data: `snnjax.app.main` reads them, `snnjax.app.commands` hold the work.

Nothing heavy is imported, so that `--help` answers at once.
"""

from snnjax.app.options.commands import Convert as Convert
from snnjax.app.options.commands import Cost as Cost
from snnjax.app.options.commands import Demo as Demo
from snnjax.app.options.commands import Doctor as Doctor
from snnjax.app.options.commands import Evaluate as Evaluate
from snnjax.app.options.commands import Export as Export
from snnjax.app.options.commands import Predict as Predict
from snnjax.app.options.commands import Pretrained as Pretrained
from snnjax.app.options.commands import Report as Report
from snnjax.app.options.commands import Sets as Sets
from snnjax.app.options.commands import Sweep as Sweep
from snnjax.app.options.commands import Train as Train
from snnjax.app.options.shared import ENCODERS as ENCODERS
from snnjax.app.options.shared import EPOCHS as EPOCHS
from snnjax.app.options.shared import MODELS as MODELS
from snnjax.app.options.shared import Data as Data
from snnjax.app.options.shared import Device as Device
from snnjax.app.options.shared import Epochs as Epochs
from snnjax.app.options.shared import Imports as Imports
from snnjax.app.options.shared import Machine as Machine
from snnjax.app.options.shared import Network as Network
from snnjax.app.options.shared import OfRun as OfRun
from snnjax.app.options.shared import Run as Run
from snnjax.app.options.shared import SplitData as SplitData
from snnjax.app.options.shared import TestData as TestData
from snnjax.app.options.shared import TrainData as TrainData
from snnjax.app.options.shared import Training as Training
from snnjax.app.options.shared import option as option
