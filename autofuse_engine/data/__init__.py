"""Volumes, files and everything that happens to images before and after registration."""
