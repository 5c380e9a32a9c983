"""Networks that predict a velocity field from a pair of images."""
