"""Cases on disk and the kidneys in them."""
