"""The parts of the MONAI Label server; `labelling/server.py` puts them together."""
