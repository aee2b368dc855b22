"""The same as the command `snnjax stream`."""

from snnjax.app.main import script

if __name__ == "__main__":
    script(__file__)
