"""Speed, as ratios within one run: machines differ and are noisy, ratios travel.

``python -m benchmarks [NAME …]`` measures, prints and rewrites ``docs/benchmarks.md``.
"""
