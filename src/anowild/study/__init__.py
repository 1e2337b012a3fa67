"""Station 6: scores -> verdicts. Metrics, baselines, and the experiments behind docs/results.md."""
