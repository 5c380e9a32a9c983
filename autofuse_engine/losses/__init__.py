"""Similarity, regularity and overlap: the three kinds of loss term."""
