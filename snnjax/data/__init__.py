"""Data sets as arrays, from downloads, scikit-learn, local files, event cameras, picture folders and .npz files."""

from snnjax.core import public
from snnjax.data.catalogue import CATALOGUE as CATALOGUE
from snnjax.data.catalogue import DATASETS as DATASETS
from snnjax.data.catalogue import HANDWRITING as HANDWRITING
from snnjax.data.dataset import Dataset as Dataset
from snnjax.data.events import RECORDINGS as RECORDINGS
from snnjax.data.events import event_picture as event_picture
from snnjax.data.events import recordings as recordings
from snnjax.data.folder import picture_folder as picture_folder
from snnjax.data.pictures import read_handwriting as read_handwriting
from snnjax.data.pictures import read_picture as read_picture
from snnjax.data.readers import read_cifar as read_cifar
from snnjax.data.readers import read_idx as read_idx
from snnjax.data.sources import Location as Location
from snnjax.data.sources import digits as digits
from snnjax.data.sources import fetch as fetch
from snnjax.data.sources import find as find
from snnjax.data.sources import load as load
from snnjax.data.splits import relabel as relabel

__all__ = public.names(vars())
