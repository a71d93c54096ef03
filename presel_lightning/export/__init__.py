"""A tuned model in the formats of other tools; one format a file."""
