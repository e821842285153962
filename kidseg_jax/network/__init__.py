"""What does it see? The cascaded 3D U-Net in JAX."""
