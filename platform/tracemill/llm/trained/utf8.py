"""Which bytes may follow in UTF-8, so that what is written byte by byte is always text.

States as in the Unicode standard, table 3-7: how many bytes of a character are still to come, and
whether the next one is narrower than usual.
"""

import numpy as np

from tracemill.llm.trained.conversation import END

START, ONE, TWO, THREE, AFTER_E0, AFTER_ED, AFTER_F0, AFTER_F4 = range(8)
_LAST = {AFTER_E0: ONE, AFTER_ED: ONE, AFTER_F0: TWO, AFTER_F4: TWO, THREE: TWO, TWO: ONE}
_RANGES = {
    START: ((0x00, 0x7F), (0xC2, 0xF4), (END, END)),
    ONE: ((0x80, 0xBF),),
    TWO: ((0x80, 0xBF),),
    THREE: ((0x80, 0xBF),),
    AFTER_E0: ((0xA0, 0xBF),),
    AFTER_ED: ((0x80, 0x9F),),
    AFTER_F0: ((0x90, 0xBF),),
    AFTER_F4: ((0x80, 0x8F),),
}
_NARROW = {0xE0: AFTER_E0, 0xED: AFTER_ED, 0xF0: AFTER_F0, 0xF4: AFTER_F4}

ALLOWED = np.zeros((len(_RANGES), 256))
"""1 where a byte may follow, by state; between characters a turn may end too."""
for _state, _allowed in _RANGES.items():
    for _low, _high in _allowed:
        ALLOWED[_state, _low : _high + 1] = 1.0


def after(state: int, byte: int) -> int:
    """The state after a byte that is allowed."""
    if state != START:
        return _LAST.get(state, START)
    if byte < 0x80:
        return START
    return _NARROW.get(byte) or (ONE if byte < 0xE0 else TWO if byte < 0xF0 else THREE)
