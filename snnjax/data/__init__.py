"""Data sets as arrays: downloaded, scikit-learn's, their own files, event cameras, folders of pictures, .npz files."""

from snnjax.data.dataset import Dataset
from snnjax.data.events import RECORDINGS, event_picture, recordings
from snnjax.data.folder import picture_folder
from snnjax.data.pictures import read_picture
from snnjax.data.readers import read_cifar, read_idx, read_npz
from snnjax.data.sources import (
    DATASETS,
    Description,
    Found,
    cifar_folder,
    describe,
    digits,
    fetch,
    find,
    idx_folder,
    load,
    npz_file,
    prepared,
)
from snnjax.data.splits import relabel

__all__ = [
    "DATASETS",
    "RECORDINGS",
    "Dataset",
    "Description",
    "Found",
    "cifar_folder",
    "describe",
    "digits",
    "event_picture",
    "fetch",
    "find",
    "idx_folder",
    "load",
    "npz_file",
    "picture_folder",
    "prepared",
    "read_cifar",
    "read_idx",
    "read_npz",
    "read_picture",
    "recordings",
    "relabel",
]
