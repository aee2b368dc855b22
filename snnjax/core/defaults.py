"""Defaults that depend on the number of training images, and limits of numbers; importing them costs nothing."""

FEW = 5_000
"""Training images, those held out included, below which networks learn for more epochs and never stop early."""

LARGEST = 2**31 - 1
"""The largest integer that programs compute with: theirs have 32 bits."""
LARGEST_SEED = 2**64 - 1
