"""Contents of the data sets, and addresses of their files, with sizes, checksums and mirrors."""

import string
from collections.abc import Callable
from typing import NamedTuple

Progress = Callable[[str, int, int], object]
"""A function of the name of the file being downloaded, the number of bytes received so far, and its size in bytes."""


class File(NamedTuple):
    """A published file; if it is an archive, `members` are the paths of the files that are extracted from it."""

    name: str
    size: int  # bytes
    sha256: str
    members: tuple[str, ...] = ()


class Published(NamedTuple):
    """Files that are downloaded together, into one folder of the cache.

    Attributes:
      folder: the name of the folder in the cache, and also of the folder on a mirror that the user specifies.
      mirrors: addresses that end in a slash, to which the names of the files are appended; they are tried in turn.
      files: the files to download.
    """

    folder: str
    mirrors: tuple[str, ...]
    files: tuple[File, ...]

    @property
    def size(self) -> int:
        """The number of bytes to download."""
        return sum(file.size for file in self.files)


class Entry(NamedTuple):
    """The contents and the origin of a data set.

    Attributes:
      train_images, test_images: the numbers of training images and test images.
      files: the names of its files. IDX: training images and labels, test images and labels; CIFAR: the test file is
        the last one.
      published: the published files; None for scikit-learn's digits, which come with snnjax.
      builder: the name of the data set in tensorflow-datasets.
      classes: the number of classes.
      class_names: the name of each class; empty if the classes are digits.
      shape: the shape of an image, (H, W) or (H, W, 3).
      first_label: the label of the first class in the files.
      transposed: whether rows and columns are exchanged in the files.
    """

    train_images: int
    test_images: int
    files: tuple[str, ...] = ()
    published: Published | None = None
    builder: str = ""
    classes: int = 10
    class_names: tuple[str, ...] = ()
    shape: tuple[int, ...] = (28, 28)
    first_label: int = 0
    transposed: bool = False


def _idx_names(train: str, test: str) -> tuple[str, ...]:
    return tuple(f"{part}-{kind}-ubyte" for part in (train, test) for kind in ("images-idx3", "labels-idx1"))


def _emnist_names(split: str) -> tuple[str, ...]:
    return _idx_names(f"emnist-{split}-train", f"emnist-{split}-test")


_MNIST_FILES = _idx_names("train", "t10k")
_CIFAR_FILES = (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin")


def _zipped(*facts: tuple[int, str]) -> tuple[File, ...]:
    """The four files of MNIST or a data set in the same format, given their sizes and checksums."""
    return tuple(File(f"{name}.gz", *fact) for name, fact in zip(_MNIST_FILES, facts, strict=True))


_MNIST = Published(
    "mnist",
    ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"),
    _zipped(
        (9_912_422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
        (28_881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
        (1_648_877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
        (4_542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
    ),
)
_FASHION_MNIST = Published(
    "fashion_mnist",
    (
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    ),
    _zipped(
        (26_421_880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
        (29_515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
        (4_422_102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
        (5_148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
    ),
)
_KMNIST = Published(
    "kmnist",
    ("https://codh.rois.ac.jp/kmnist/dataset/kmnist/", "http://codh.rois.ac.jp/kmnist/dataset/kmnist/"),
    _zipped(
        (18_165_135, "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4"),
        (29_497, "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17"),
        (3_041_136, "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5"),
        (5_120, "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c"),
    ),
)
_EMNIST = Published(
    "emnist",
    ("https://biometrics.nist.gov/cs_links/EMNIST/", "https://www.itl.nist.gov/iaui/vip/cs_links/EMNIST/"),
    (
        File(
            "gzip.zip",
            561_753_746,
            "fb9bb67e33772a9cc0b895e4ecf36d2cf35be8b709693c3564cea2a019fcda8e",
            tuple(f"gzip/{name}.gz" for split in ("digits", "letters", "balanced") for name in _emnist_names(split)),
        ),
    ),
)
_CIFAR10 = Published(
    "cifar10",
    (
        "https://www.cs.toronto.edu/~kriz/",
        "https://storage.googleapis.com/s4tf-hosted-binaries/datasets/CIFAR10/",
        "https://mindspore-website.obs.cn-north-4.myhuaweicloud.com/notebook/datasets/",
    ),
    (
        File(
            "cifar-10-binary.tar.gz",
            170_052_171,
            "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
            tuple(f"cifar-10-batches-bin/{name}" for name in _CIFAR_FILES),
        ),
    ),
)
_CLOTHES = (
    *("T-shirt/top", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
)
_KANA = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")
_LETTERS = tuple(string.ascii_uppercase)  # each class contains upper and lower case
_BALANCED = (*string.digits, *string.ascii_uppercase, *"abdefghnqrt")  # letters whose lower case looks different
_OBJECTS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

CATALOGUE = {
    "digits": Entry(1_437, 360),
    "mnist": Entry(60_000, 10_000, _MNIST_FILES, _MNIST, "mnist"),
    "fashion_mnist": Entry(60_000, 10_000, _MNIST_FILES, _FASHION_MNIST, "fashion_mnist", class_names=_CLOTHES),
    "kmnist": Entry(60_000, 10_000, _MNIST_FILES, _KMNIST, "kmnist", class_names=_KANA),
    "emnist_digits": Entry(240_000, 40_000, _emnist_names("digits"), _EMNIST, "emnist/digits", transposed=True),
    "emnist_letters": Entry(
        124_800,  # tensorflow-datasets has only the first 88,800, and 14,800 test images
        20_800,
        _emnist_names("letters"),
        _EMNIST,
        "emnist/letters",
        classes=26,
        class_names=_LETTERS,
        first_label=1,
        transposed=True,
    ),
    "emnist_balanced": Entry(
        112_800,
        18_800,
        _emnist_names("balanced"),
        _EMNIST,
        "emnist/balanced",
        classes=47,
        class_names=_BALANCED,
        transposed=True,
    ),
    "cifar10": Entry(50_000, 10_000, _CIFAR_FILES, _CIFAR10, "cifar10", class_names=_OBJECTS, shape=(32, 32, 3)),
}
"""The data sets, by name."""
HANDWRITING = ("mnist", "emnist_digits", "emnist_letters", "emnist_balanced")
"""Data sets whose characters are scaled and centred as in MNIST."""
DATASETS = tuple(CATALOGUE)
