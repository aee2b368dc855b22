"""The commands: a module for each, whose function `run` does the work, given the options."""
