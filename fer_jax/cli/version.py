"""What `fer-jax --version` prints: versions and devices, as bug reports need them."""

from __future__ import annotations

import platform

import fer_jax
from fer_jax import run_dir


def main() -> None:
    """Prints a line per package, and JAX's devices."""
    print(f"fer-jax {fer_jax.__version__}")
    found = run_dir.versions()
    print(f"python {found.pop('python')} on {platform.platform()}, {found.pop('cores')} cores")
    for package, version in found.items():
        if package not in ("fer_jax", "machine"):
            print(f"{package} {version}")
    from fer_jax.runtime import sharding

    devices = sharding.all_devices()
    kinds = sorted({f"{device.platform} ({device.device_kind})" for device in devices})
    print(f"devices {len(devices)}: {', '.join(kinds)}")
