"""What a surgeon asks of a label map: tumours, distances, scores, arteries and territories of one kidney."""
