"""Is it right? Metrics, statistics, meshes and the report."""
