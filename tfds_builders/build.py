"""`python -m tfds_builders.build`: the same as `fer-jax prepare`."""

from fer_jax.cli.app import script

if __name__ == "__main__":
    script("prepare")
