"""How the pictures of the book are made; `experiments/pictures.py` writes them."""
