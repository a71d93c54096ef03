"""A local page: look at what was selected, veto and pin images, write instructions."""
