"""For this model, this kind of question and this budget: what should be run, and what will it give?

``plan`` answers from a cost model and from profiles, or from stated priors where nothing was measured; ``auto`` is the
strategy that runs the plan and goes on planning.
"""
