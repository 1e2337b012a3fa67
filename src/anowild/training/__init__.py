"""Training: from images to a model.

`run` is a training from sources to the files of a model, and `fitting` fits its views and joins them by their
calibration. One module fits each view: `pixels`, `pretrained`, `transforms` and `gan`. They use `references`
(distances that no image has to itself), `by_parts` (sets larger than memory), `side_by_side` (networks in processes
of their own) and `trusted` (which images networks are trained on). `suspects` ranks the training images.

Of the GAN, `step` is one iteration of the paper's algorithm, with `networks`, `noise` (of random `streams`), `losses`,
`optimizer` and `augmentation`; `loop` repeats it by `schedule`, with minibatches from `sampler`, in a `run_folder`.
`sizes` says at which size any network sees images. `checkpoint`, `tick_log` and `sample_grids` save what a run reaches,
`robust` leaves training images out, `distributed` shares minibatches among processes, `cuda_graphs` speeds up small
levels on a GPU, `flops` counts the work.
"""
