"""Labels, and how well a ranking agrees with them.

`labels` reads labels from files, folder names or sources; `metrics` has AUROC, average precision and F1
with 95 % intervals; `evaluate` scores a labeled source and measures it (`anowild evaluate`).
"""
