"""Zero-shot action recognition in JAX: name actions, point at a video."""

__version__ = '0.1.0'
