"""Alerts: named conditions (`rules`), a pure engine (`engine`), a loop around it and the channels it tells.

Import what you need from the module that has it; the web framework and httpx2 are not imported from here.
"""
