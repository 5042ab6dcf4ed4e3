"""`python -m fer_jax.crossval`: the same as `fer-jax crossval`."""

from fer_jax.cli.app import script

if __name__ == "__main__":
    script("crossval")
