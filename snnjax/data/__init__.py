"""Data sets as arrays: downloaded, from scikit-learn, their own files, tensorflow-datasets, or an .npz file."""

from snnjax.data.dataset import Dataset
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

__all__ = [
    "DATASETS",
    "Dataset",
    "Description",
    "Found",
    "cifar_folder",
    "describe",
    "digits",
    "fetch",
    "find",
    "idx_folder",
    "load",
    "npz_file",
    "prepared",
    "read_cifar",
    "read_idx",
    "read_npz",
]
