"""What commands need beyond the library: folders of runs and sweeps (also for your own scripts), reports, options."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
