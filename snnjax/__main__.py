"""`python -m snnjax` is the command `snnjax`."""

from snnjax.app.main import program

program()
