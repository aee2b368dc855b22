"""Makes a record and a line for each row of a table from the results of its runs, in a module per kind of table."""
