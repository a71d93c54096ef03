"""Many runs on one page: the table of cells and how it is drawn."""
