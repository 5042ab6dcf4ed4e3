"""`python -m fer_jax.export`: the same as `fer-jax export`."""

from fer_jax.cli.app import script

if __name__ == "__main__":
    script("export")
