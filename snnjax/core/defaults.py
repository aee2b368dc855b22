"""Choices and defaults that options name; importing them costs nothing."""

from typing import Literal, get_args

Fit = Literal["crop", "pad"]
FITS: tuple[Fit, ...] = get_args(Fit)
"""What is done to pictures of other proportions than the images."""

FEW = 5_000
"""Training images, held-out ones included, below which networks learn for more epochs and never stop early."""
SHOWN = 10_000
"""How many images are shown to a layer that learns without labels, if the data set is small."""
EPOCHS_OF_FEW = 100
"""The number of supervised epochs if few images have labels."""
