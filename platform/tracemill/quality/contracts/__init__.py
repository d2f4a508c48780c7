"""Contracts: whether a function or an endpoint keeps to its schemas, also for what it should refuse.

`check` sends edge cases and generated values, valid ones and wrong ones, and reports each answer that
breaks the contract with a way to see it again. It judges by the schema alone: nothing is learned from
what the other side happens to answer.
"""

from tracemill.quality.contracts.cases import Case, Raw, edge_cases
from tracemill.quality.contracts.check import check
from tracemill.quality.contracts.documents import check_openapi
from tracemill.quality.contracts.report import Problem, Report
from tracemill.quality.contracts.shapes import Shape, shape
from tracemill.quality.contracts.targets import Answer, Endpoint

__all__ = ["Answer", "Case", "Endpoint", "Problem", "Raw", "Report", "Shape", "check"]
__all__ += ["check_openapi", "edge_cases", "shape"]
