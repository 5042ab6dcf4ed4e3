"""`python -m fer_jax.preview`: the same as `fer-jax preview`."""

from fer_jax.cli.app import script

if __name__ == "__main__":
    script("preview")
