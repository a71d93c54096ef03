"""The page of one run and what is drawn on it."""
