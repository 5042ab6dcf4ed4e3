"""`python -m fer_jax VERB`: the same as `fer-jax VERB`."""

from fer_jax.cli.app import script

if __name__ == "__main__":
    script()
