"""Work that is done once: trainings and measurements of what they made, kept by what they are.

A plan is a mapping of names to ``work.Run`` and ``work.Measure``; ``runner.execute`` does what is
missing of it in a ``cache.Cache``, here or on a cluster. Figures of papers and sweeps are made of
such plans. Nothing is imported here, so that the state of a plan is read without torch.
"""
