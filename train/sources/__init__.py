"""Candidate sources; their settings by name are in `train.sources.entries`.

Serving opens fitted sources and loads neither their settings nor, with those, torch.
"""
