"""Export of a run's model or selection in the formats of other tools; one file per format."""
