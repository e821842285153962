"""Files in and out: the one place that touches file bytes and ITK."""
