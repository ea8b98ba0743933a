"""The fault campaign: small commands, faults injected into them, and what must hold afterwards.

``python -m faults`` with ``tests`` on the path, or ``make faults``, runs all of it and prints a
table; ``--short`` is the part that ``make test`` runs.

=========== =====================================================================
commands    the table of commands, and where their finished work can be counted
kinds       the table of faults
child       runs of the command line as processes, forked or fresh
layer       the calls that change files, numbered, so that any can be made to fail
numbers     what files hold, for comparison; whether files are whole
campaign    one trial: fault, rerun, comparison
table       Markdown
=========== =====================================================================
"""
