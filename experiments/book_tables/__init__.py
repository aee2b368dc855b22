"""The tables of the book: of recorded results, and of the descriptions of networks."""
