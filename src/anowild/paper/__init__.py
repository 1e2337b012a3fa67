"""The paper held against this code. Imports `networks` and `training`.

`tables` prints the layers as the paper's appendix does, `reference` loads parameters under the names of
the authors' released code, `parity` compares our networks, losses and training with its numbers.
"""
