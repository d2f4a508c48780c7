"""What stands out from its past: pure statistics over arrays, with a stated rate of false alarms.

Nothing here knows of logs, calls or frames. What it is worth is measured in `docs/detection.md`.
"""

from tracemill.detection.daily import Anomalies, daily_anomalies
from tracemill.detection.drift import Drift, drifted
from tracemill.detection.forecast import Forecast, forecast
from tracemill.detection.rates import Change, rate_changed

__all__ = [
    "Anomalies",
    "Change",
    "Drift",
    "Forecast",
    "daily_anomalies",
    "drifted",
    "forecast",
    "rate_changed",
]
