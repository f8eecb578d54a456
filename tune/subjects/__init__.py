"""Subjects of a sweep: towers, sources, a reranker or an index.

The stages before the varied one are computed once and shared by all trials.
"""

from collections.abc import Mapping

from tune.subjects.base import Subject
from tune.subjects.indexes import INDEX
from tune.subjects.rerankers import RERANKER
from tune.subjects.sources import SOURCES
from tune.subjects.towers import TOWERS

SUBJECTS: Mapping[str, Subject] = {one.name: one for one in (TOWERS, SOURCES, RERANKER, INDEX)}
