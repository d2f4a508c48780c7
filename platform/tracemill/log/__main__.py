"""Seal the tail of the log in a folder: `python -m tracemill.log FOLDER`.

What an append starts when the tail has grown, so that folding never takes turns with its caller.
"""

import sys

from tracemill.log.store import EventLog

if __name__ == "__main__":
    with EventLog(sys.argv[1]) as log:
        log.fold(wait=False)
        log.gc()
