"""Run directories that come with the package, by name: weights, config, report and model card.

`run_dir.SHIPPED` finds them; `python -m tools.ship_model` writes them.
"""
