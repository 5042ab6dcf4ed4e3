"""`python -m fer_jax.summary`: the same as `fer-jax summary`."""

from fer_jax.cli.app import script

if __name__ == "__main__":
    script("summary")
