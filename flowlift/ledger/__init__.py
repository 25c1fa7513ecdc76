"""What a store knows of itself without opening its data: index, plan, claims, status.

Nothing heavy is imported here, so that a status of 10,000 runs costs a fraction of a second.
"""

from .claims import Claim, Holder, claims, clear_dead
from .forecast import Rates, duration
from .index import Entry, append, latest, read_index, unread
from .plan import Row, read_plan, write_plan
from .status import Status, as_text, status

__all__ = [
    "Claim",
    "Entry",
    "Holder",
    "Rates",
    "Row",
    "Status",
    "append",
    "as_text",
    "claims",
    "clear_dead",
    "duration",
    "latest",
    "read_index",
    "read_plan",
    "status",
    "unread",
    "write_plan",
]
