"""The experiments behind docs/results.md: the command `anowild study`.

`datasets` has the image sets, and `public_sets` makes some of public files. `sweep` runs trials, each a `trial` by one of `methods`,
and keeps their cues (`cue_cache`); `baselines` are what one would pick instead. `view_rules` and `fusion_rules` join kept
cues in other ways, `latent_search` is AnoGAN's score; `tables` and `plots` show what came out.
"""
