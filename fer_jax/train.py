"""`python -m fer_jax.train`: the same as `fer-jax train`."""

from fer_jax.cli.app import script

if __name__ == "__main__":
    script("train")
