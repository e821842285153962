"""Drawn patients: CTs whose true labels are known."""
