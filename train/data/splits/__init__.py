"""Splits by name: which interactions train, which validate and which test."""

from train.data.splits.base import Split
from train.data.splits.hold_out_items import HoldOutItems
from train.data.splits.leave_last import LeaveLast
from train.data.splits.times import LastDays, Time

SPLITS: dict[str, type[Split]] = {
    "time": Time,
    "last_days": LastDays,
    "leave_last": LeaveLast,
    "hold_out_items": HoldOutItems,
}
