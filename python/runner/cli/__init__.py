"""`python -m runner`: a thin client of the admin API, plus what works without a running runner."""
