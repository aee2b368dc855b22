"""Training on disk: the folders of runs, sweeps and streams, and the trained networks in them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
