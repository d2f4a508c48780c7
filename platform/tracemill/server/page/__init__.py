"""The page at `/`: what the log holds, for a browser. Rendered here, no build step, one stylesheet.

It only reads; what changes something is done on the command line or by the API.
"""
