"""Settings of the whole suite: fewer examples than hypothesis' hundred; ctrl-C reaches children."""

import signal

from hypothesis import settings

settings.register_profile("suite", parent=settings(), max_examples=50)
settings.load_profile("suite")

# A shell's background job ignores ctrl-C, and so would every process that a test starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
