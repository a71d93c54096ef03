"""A run's model or selection in the formats of other tools; one format a file."""
