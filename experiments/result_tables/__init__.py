"""Records and a line for each row of a table, from the results of its runs: a module for each kind of table."""
