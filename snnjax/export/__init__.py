"""Export of trained networks to C, HTML pages, NIR and PyTorch; weights can also be read from PyTorch files."""
