"""What happens when? The plan of a run, its directory, and what one stage does."""
