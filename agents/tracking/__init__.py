"""What a run writes and shows: metrics, the console, curves, dashboards, episode records, cards and uploads.

It reads trajectories and metrics and does not change them.
It may import the shared types, but never a learner or a trainer.
"""
