"""The work of the commands: a module each, with a function `run` of the options."""
