"""Defaults that depend on the number of training images; importing them costs nothing."""

FEW = 5_000
"""Training images, held-out ones included, below which networks learn for more epochs and never stop early."""
