"""`python -m fer_jax.port_weights`: the same as `fer-jax port-weights`."""

from fer_jax.cli.app import script

if __name__ == "__main__":
    script("port-weights")
