"""The training record: numbered cases as recipes, run by one command each, shown on one page; and searches."""
