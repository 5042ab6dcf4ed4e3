"""`python -m fer_jax.predict`: the same as `fer-jax predict`."""

from fer_jax.cli.app import script

if __name__ == "__main__":
    script("predict")
