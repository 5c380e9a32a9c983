"""AutoFuse: deformable registration of three-dimensional medical images.

The package imports nothing at this level, so that its first layer (configs, events, errors, catalog) is
usable where torch is not installed, as in the main process of 3D Slicer.
"""

__version__ = "0.1.0"
