"""Choices and defaults that options name; importing them costs nothing."""

from typing import Literal, get_args

Fit = Literal["crop", "pad"]
FITS: tuple[Fit, ...] = get_args(Fit)
"""What is done to pictures of other proportions than the images."""

FEW = 5_000
"""Training images, held-out ones included, below which networks learn for more epochs and never stop early."""
SHOWN = 10_000
"""Images that a layer is shown to learn from without labels, where there are few."""
EPOCHS_OF_FEW = 100
"""Supervised epochs, where few images have labels."""
