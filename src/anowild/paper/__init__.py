"""Comparison with the paper and its reference implementation.

`tables` prints the layers as the paper's appendix does, `reference` converts parameters from and to those
of the authors' released code, `parity` compares networks, losses, training and scores with its numbers.
"""
