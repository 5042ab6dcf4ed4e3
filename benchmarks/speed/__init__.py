"""Speed of training steps and inference beside PyTorch, Keras and ONNX Runtime.

    make benchmark                    installs the other libraries and measures everything
    python -m benchmarks.speed        every network, every contender
    python -m benchmarks.speed --models light_vgg --contenders fer_jax,torch_eager --rounds 3
    python -m benchmarks.speed --device gpu --kinds train --batch 256

Each contender is a process (`worker`), in the environment of the other libraries if it needs one.
It trains the same network on the same batch during its turns and sleeps otherwise. Rounds alternate
between contenders (`runner`), so that drifting machine speed favors none. Every round also measures
the machine's ceilings, matrix products and copies (`contenders.ceiling`). The results are a JSON
file, tables (`table`) and a plot (`plot`).

All contenders do the same work: a uint8 batch already on the device, scaled to [0, 1], dropout, no
augmentation, mean cross-entropy, Adam with its defaults. fer_jax runs its real training step,
including metrics and norms for the log. The runner checks that parameter counts are equal.
"""
