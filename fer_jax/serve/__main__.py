"""`python -m fer_jax.serve`: the same as `fer-jax serve`."""

from fer_jax.cli.app import script

if __name__ == "__main__":
    script("serve")
