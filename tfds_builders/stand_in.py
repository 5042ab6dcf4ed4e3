"""`python -m tfds_builders.stand_in`: the same as `fer-jax stand-in`."""

from fer_jax.cli.app import script

if __name__ == "__main__":
    script("stand-in")
