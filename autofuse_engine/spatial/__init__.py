"""Geometry of dense fields on voxel grids: pure functions over torch tensors."""
