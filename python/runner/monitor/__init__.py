"""`python -m runner monitor`: one look from outside, for cron.

`look` asks the runner and the kernel, `verdict` judges (pure), `record` keeps the line and the last look,
`ping` tells a watcher elsewhere. Imports neither Trio nor the web framework: a check every two minutes must
cost next to nothing, and must work when little else does.
"""
