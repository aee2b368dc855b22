"""Defaults that depend on the number of training images; importing them costs nothing."""

FEW = 5_000
"""Training images, held-out ones included, below which networks learn for more epochs and never stop early."""
SHOWN = 10_000
"""Images that a layer is shown to learn from without labels, where there are few."""
EPOCHS_OF_FEW = 100
"""Supervised epochs, where few images have labels."""
