"""What a run writes and shows: metrics, the console, curves, dashboards, episode records, cards and uploads.

Reads trajectories and metrics; changes nothing.
May import the types; never a learner or a trainer.
"""
