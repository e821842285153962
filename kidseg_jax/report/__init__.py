"""What a run shows: tables, curves, pictures, one page."""
