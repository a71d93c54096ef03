"""Confidence intervals over items and seeds; scores relative to full-data tuning."""
