"""What makes a signal; one file a signal."""
