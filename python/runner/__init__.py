"""Keeps thousands of WhatsApp Web sessions connected and tells the truth about each of them."""
