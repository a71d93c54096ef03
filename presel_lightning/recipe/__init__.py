"""The stages in their order, each from where it stopped."""
