"""The work of the commands: one module per command, with a function `run` of the options."""
