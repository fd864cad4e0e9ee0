"""Keeps thousands of WhatsApp Web sessions connected in one process and tells the truth about each of them."""
