"""Where is it? Volumes, files, cohorts and phantoms: millimetres and patients."""
