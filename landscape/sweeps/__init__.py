"""A grid of trainings, each measured in the same ways: ``landscape sweep``.

``specification`` reads what is asked for, ``plan`` makes runs and measurements of it, ``sweeping``
has them done and ``table`` gathers the numbers. Nothing is imported here, so that ``status``
answers without torch.
"""
