"""Searches over flags: ranges in a TOML file, trials that are run folders, median pruning, a table and a picture."""
