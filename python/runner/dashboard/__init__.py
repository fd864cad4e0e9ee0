"""The dashboard: files for a browser, and the cookie by which a browser signs in."""
