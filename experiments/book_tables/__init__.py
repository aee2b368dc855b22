"""The tables of the book, which are made from recorded results and from the descriptions of networks."""
