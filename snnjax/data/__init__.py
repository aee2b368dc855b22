"""Data sets as arrays: downloaded, scikit-learn's, their own files, event cameras, folders of pictures, .npz files."""

from snnjax.data.catalogue import CATALOGUE, DATASETS, HANDWRITING
from snnjax.data.dataset import Dataset
from snnjax.data.events import RECORDINGS, event_picture, recordings
from snnjax.data.folder import picture_folder
from snnjax.data.pictures import read_handwriting, read_picture
from snnjax.data.readers import read_cifar, read_idx
from snnjax.data.sources import Location, digits, fetch, find, load
from snnjax.data.splits import relabel

__all__ = [
    "CATALOGUE",
    "DATASETS",
    "HANDWRITING",
    "RECORDINGS",
    "Dataset",
    "Location",
    "digits",
    "event_picture",
    "fetch",
    "find",
    "load",
    "picture_folder",
    "read_cifar",
    "read_handwriting",
    "read_idx",
    "read_picture",
    "recordings",
    "relabel",
]
