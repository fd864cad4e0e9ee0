"""Events posted to the operator's addresses: durable, signed, in the order of each chat.

Import what you need from the module that has it.
"""
