"""Trained networks for other programs: C, a web page, NIR and PyTorch, whose weights are also read."""
