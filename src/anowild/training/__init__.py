"""Training: a set of images -> trained networks.

`step` is one iteration of the paper's algorithm, with `losses`, `optimizer` and `augmentation`; `loop`
repeats it by `schedule`, with minibatches from `sampler`. `checkpoint`, `tick_log` and `sample_grids` save
what a run reaches, `robust` leaves training images out, `cuda_graphs` speeds up small levels on a GPU,
`flops` counts the work.
"""
