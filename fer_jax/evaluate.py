"""`python -m fer_jax.evaluate`: the same as `fer-jax evaluate`."""

from fer_jax.cli.app import script

if __name__ == "__main__":
    script("evaluate")
