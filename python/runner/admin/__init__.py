"""The admin API: what an operator and his programs see and do, on a Unix socket and on loopback TCP."""
