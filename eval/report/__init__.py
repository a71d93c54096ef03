"""The report page of one run, and its charts."""
