"""The rows of the tables of results, and published accuracies to compare with."""

import dataclasses
from typing import Literal, NamedTuple

from snnjax import NETWORKS
from snnjax.app.names import RECORDED

CITED = "as cited in other papers, to be checked in the paper before it is quoted"
JPEG = "cifar10-jpeg"  # a folder of pictures: slightly lossy copies of CIFAR-10's images


@dataclasses.dataclass(frozen=True)
class Row:
    """Runs of one network on one data set that differ only in their seeds."""

    model: str  # as the option of `snnjax train`
    dataset: str  # as the option of `snnjax train`, or cifar10-jpeg
    train_images: int | None = None  # equally many of each class, including held-out images; None: all
    test_images: int | None = None  # equally many of each class; None: all
    in_order: bool = False  # the first images of the data set, however many of each class
    labels: int | None = None  # number of labelled training images, equally many of each class; None: all
    drawn: bool = False  # whether labelled images are drawn at random by the seed; otherwise they are the first ones
    validation: float = 0.1  # share of the training images to hold out
    mirror: bool = False  # whether training images are mirrored at random
    backend: Literal["native", "xla"] = "native"
    epochs: tuple[int, ...] = ()  # epochs of each stage; (): those of the network
    adapt_every: int | None = None  # this and the next three are as the options of `snnjax train`
    shuffle: bool | None = None
    patience: int | None = None
    update_batch: int = 1
    seeds: int = 5  # number of runs
    least: float | None = None  # minimum mean test accuracy to reach, in %; None: none

    @property
    def images(self) -> str:
        """The name of the original data set of the images."""
        return "cifar10" if self.dataset == JPEG else self.dataset


def recorded_run(model: str) -> Row:
    """The protocol of a recorded run of aidinattar/snn, in which each epoch is tested on the test images."""
    return Row(
        model,
        "mnist",
        train_images=6_000,
        test_images=2_000,
        in_order=True,
        validation=0,
        epochs=(*NETWORKS[model]().epochs[:-1], 4),
        adapt_every=1_000,
        shuffle=False,
        patience=0,
    )


NCG = "goupy2024_ncg"
SCALES = "ncg_scales"
PCN = "goupy2024_pcn"
S2STDP = "goupy2024_s2stdp"
SSTDP = "goupy2024_sstdp"
SOFTHEBB = "goupy2024_softhebb"
NARROW = "softhebb_narrow"
LOCAL = "local_narrow"
LOCAL_WIDE = "local_wide"
SIZES = (100, 1_000, 10_000, None)
FEW_LABELS = (100, 1_000, 10_000)
MORE_SIZES = (100, 1_000, 3_000, 10_000, 30_000, None)
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)

TABLES: dict[str, tuple[Row, ...]] = {
    "digits": (Row(NCG, "digits", least=97.0), Row(NCG, "digits", backend="xla", least=97.0)),
    "mnist": (
        Row(NCG, "mnist", least=98.7),
        Row(NCG, "mnist", backend="xla", least=98.7),
        Row(SCALES, "mnist"),
        Row(PCN, "mnist", least=98.3),
        Row(S2STDP, "mnist", least=97.5),
        Row(SSTDP, "mnist", least=96.5),
        Row("kheradpisheh2018", "mnist", least=98.0),
        Row(SOFTHEBB, "mnist", least=99.2),
        Row(NARROW, "mnist"),
        Row(LOCAL_WIDE, "mnist", seeds=1, least=99.4),  # takes an hour
        Row("mozafari2018", "mnist", epochs=(2, 4, 400), patience=40, seeds=1, least=96.5),  # takes an hour
        *(
            Row(f"{name}2024", "mnist", seeds=1)
            for name in ("deep", "deepr", "inception", "majority", "resnet", "deeper")
        ),
        Row("deepr2024_2", "mnist", seeds=1),
    ),
    "cifar10": (
        Row(NCG, JPEG, mirror=True, least=64.5),
        Row(NCG, JPEG, seeds=1),
        Row(SCALES, JPEG, mirror=True, least=66.4),
        Row(SOFTHEBB, JPEG, mirror=True, least=78.8),
        Row(NARROW, JPEG, mirror=True, least=74.0),
        Row(LOCAL, JPEG, mirror=True, least=79.5),
        Row(LOCAL_WIDE, JPEG, mirror=True, least=82.5),  # each run takes an hour
    ),
    "efficiency": (
        *(Row(NCG, "mnist", train_images=count) for count in SIZES),
        *(Row(NCG, JPEG, train_images=count, mirror=True) for count in SIZES),
        *(Row(NARROW, "mnist", train_images=count) for count in SIZES),
        *(Row(NARROW, JPEG, train_images=count, mirror=True) for count in MORE_SIZES),
    ),
    "labels": (
        *(Row(NCG, "mnist", labels=count, drawn=True) for count in FEW_LABELS),
        *(Row(NARROW, "mnist", labels=count, drawn=True) for count in FEW_LABELS),
        *(Row(NCG, JPEG, labels=count, drawn=True, mirror=True) for count in FEW_LABELS),
        *(Row(NARROW, JPEG, labels=count, drawn=True, mirror=True) for count in FEW_LABELS),
    ),
    "batches": tuple(
        Row("mozafari2018", "mnist", train_images=6_000, epochs=(2, 4, 10), patience=0, update_batch=size, seeds=3)
        for size in BATCHES
    ),
    "replication": tuple(recorded_run(name) for name in RECORDED),
    "pretrained": (
        *(Row(name, "mnist", seeds=1) for name in (NCG, "kheradpisheh2018", "mozafari2018", "deep2024")),
        Row(NARROW, JPEG, mirror=True, seeds=1),
    ),
}


class Published(NamedTuple):
    """A published test accuracy in %, of a network of snnjax or of another network to compare it with."""

    beside: str
    dataset: str
    train_images: int | None
    accuracy: float
    source: str


ATTAR = "Attar, Cicciarella, Rossi 2026, tables 2 and 4, another network"
JOURNE = "Journé et al. 2023, arXiv 2209.11883, their features under a linear classifier trained by gradients"
GOUPY_NCG = "Goupy et al. 2024, NeurIPS"
GOUPY_PCN = "Goupy et al. 2024, PCN"
PUBLISHED = (
    Published(NCG, "mnist", None, 98.92, f"{GOUPY_NCG}, {CITED}"),
    Published(NCG, "fashion_mnist", None, 88.7, f"{GOUPY_NCG}, {CITED}"),
    Published(NCG, "cifar10", None, 66.4, f"{GOUPY_NCG}, {CITED}"),
    Published(PCN, "mnist", None, 98.6, f"{GOUPY_PCN}, {CITED}"),
    Published(S2STDP, "mnist", None, 97.7, f"{GOUPY_PCN}, {CITED}"),
    Published("kheradpisheh2018", "mnist", None, 98.4, "Kheradpisheh et al. 2018"),
    Published(SOFTHEBB, "mnist", None, 99.4, JOURNE),
    Published(SOFTHEBB, "cifar10", None, 80.3, JOURNE),
    Published("mozafari2018", "mnist", None, 97.2, "Mozafari et al. 2019, arXiv 1804.00227, their C++"),
    Published("mozafari2018", "fashion_mnist", None, 68.2, "Mozafari et al. 2019 as a baseline of Attar et al. 2026"),
    Published("mozafari2018", "cifar10", None, 33.3, "Mozafari et al. 2019 as a baseline of Attar et al. 2026"),
    Published(NCG, "mnist", 100, 41.5, ATTAR),
    Published(NCG, "mnist", 1_000, 84.1, ATTAR),
    Published(NCG, "mnist", 10_000, 93.2, ATTAR),
    Published(NCG, "mnist", None, 96.7, ATTAR),
    Published(NCG, "cifar10", 100, 12.6, ATTAR),
    Published(NCG, "cifar10", 1_000, 41.7, ATTAR),
    Published(NCG, "cifar10", 10_000, 56.4, ATTAR),
    Published(NCG, "cifar10", None, 62.5, ATTAR),
    Published(NCG, "fashion_mnist", 10_000, 82.5, ATTAR),
    Published(NCG, "fashion_mnist", None, 86.3, ATTAR),
)


def published(row: Row) -> list[Published]:
    """The published accuracies to compare with a row; for JPEG copies, those of the original images.

    There are none for rows in which features learn from more images than have labels.
    """
    if row.labels is not None:
        return []
    key = (row.model, row.images, row.train_images)
    return [entry for entry in PUBLISHED if entry[:3] == key]
