"""Tables of results, from the results of runs: a module for each kind of table."""
