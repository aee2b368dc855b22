"""The names that options accept, listed here so that `--help` need not import the networks and encoders."""

RECORDED = (
    "mozafari2018",
    "deep2024",
    "deepr2024",
    "deepr2024_2",
    "inception2024",
    "majority2024",
    "resnet2024",
    "deeper2024",
)
"""The networks of aidinattar/snn for which there are recorded runs."""
DEFAULT_MODEL = "goupy2024_ncg"
SUPERVISED = ("goupy2024_sstdp", "goupy2024_s2stdp", "goupy2024_pcn", "goupy2024_ncg", "ncg_scales")
DEEP = ("goupy2024_softhebb", "softhebb_narrow", "local_wide", "local_narrow")
MODELS = (*RECORDED, *SUPERVISED, "kheradpisheh2018", "mozafari2018_objects", "ncg_prototypes", *DEEP)
DATASETS = (
    "digits",
    "mnist",
    "fashion_mnist",
    "kmnist",
    "emnist_digits",
    "emnist_letters",
    "emnist_balanced",
    "cifar10",
)
RECORDINGS = ("nmnist", "pokerdvs", "dvs_gesture", "cifar10dvs", "ncaltech101", "asl_dvs")
"""The event-camera data sets, which need the package tonic."""

ENCODERS = ("grey", "colour", "dog", "gabor", "on_off", "whitening", "pixels", "events")

NAMES = f"one of {', '.join(DATASETS)}, folder, {', '.join(RECORDINGS)}; or an .npz file"
