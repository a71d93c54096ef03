"""The command line; it begins in `main`, and commands that need no model import no torch."""
