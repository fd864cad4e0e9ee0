"""Tuning: looks at the machine, says what N sessions need of it and why, and changes only what it is told to.

`facts` reads; `files`, `network`, `memory`, `process` and `clock` judge, each a table of checks and pure;
`report` puts an answer together; `changes` writes, verifies and takes back; `start` is what the runner sets
for itself. Figures come from bench/results (`measured`), everything else cites its source.
"""
