"""Data sets as arrays: from scikit-learn, from their own files, or as tensorflow-datasets has prepared them."""

from snnjax.data.dataset import Dataset
from snnjax.data.readers import read_cifar, read_idx
from snnjax.data.sources import DATASETS, cifar_folder, digits, idx_folder, load, prepared

__all__ = ["DATASETS", "Dataset", "cifar_folder", "digits", "idx_folder", "load", "prepared", "read_cifar", "read_idx"]
