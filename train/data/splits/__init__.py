"""Splits by name: which interactions train, which validate and which test."""

from train.data.splits.auto import AutoSplit
from train.data.splits.base import Split
from train.data.splits.hold_out_items import HoldOutItems
from train.data.splits.leave_last import LeaveLast
from train.data.splits.random import Random
from train.data.splits.times import LastDays, Time

SPLITS: dict[str, type[Split]] = {
    "auto": AutoSplit,
    "time": Time,
    "last_days": LastDays,
    "leave_last": LeaveLast,
    "random": Random,
    "hold_out_items": HoldOutItems,
}
