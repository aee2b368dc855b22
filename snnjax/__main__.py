"""`python -m snnjax` is the command `snnjax`."""

from snnjax.app.main import program

if __name__ == "__main__":
    program()
