from .run_folder import RunFolder as RunFolder
from .stream import Stream as Stream
from .stream_folder import StreamFolder as StreamFolder
from .sweep_folder import SweepFolder as SweepFolder
from .trained import Trained as Trained
from .trained import load as load
