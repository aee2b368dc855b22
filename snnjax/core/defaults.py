"""Choices and defaults of command-line options; importing them costs nothing."""

from typing import Literal, get_args

Fit = Literal["crop", "pad"]
FITS: tuple[Fit, ...] = get_args(Fit)
"""The ways of fitting pictures whose proportions differ from those of the images."""

FEW = 5_000
"""With fewer training images, including held-out images, networks learn for more epochs and never stop early."""
SHOWN = 10_000
"""The number of images shown to a layer that learns without labels if the data set is small."""
EPOCHS_OF_FEW = 100
"""The number of supervised epochs if few images have labels."""
