"""The fuzz campaign: mutated files and command lines, run where nothing they do goes unseen.

``seeds`` makes good files, ``mutating`` changes them, ``commands`` makes up command lines,
``running`` runs both in a watched fork, ``campaign`` keeps what reaches new lines of the package,
and ``table`` writes the figures into the docs. What was found is in ``tests/test_fuzz.py``.
"""
