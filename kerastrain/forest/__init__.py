"""Forests of any library as flat arrays, and as one Keras layer over them."""
