"""The pytest-benchmark suite (`make bench`) and the scenarios (`python -m bench.scenarios.NAME`)."""
