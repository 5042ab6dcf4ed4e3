"""The layers that the networks are made of, and the forms of operations that are fast on CPUs."""
