"""The functions that draw the pictures of the book; `experiments/pictures.py` writes the files."""
