"""Training steps and inference of fer_jax against PyTorch, Keras and ONNX Runtime, in one run.

    make benchmark                    installs the peers, then runs what follows
    python -m benchmarks.speed        every network, every contender
    python -m benchmarks.speed --models light_vgg --contenders fer_jax,torch_eager --rounds 3
    python -m benchmarks.speed --device gpu --kinds train --batch 256     with PyTorch beside it

Each contender is a process of its own (`worker`), in the peers' environment where it needs
one, that trains the same network on the same batch when told to and sleeps otherwise. Rounds
go around the contenders (`runner`), so that a machine whose speed drifts favours none, and
every round also measures what the machine can do at all: matrix products and copies
(`contenders.ceiling`). What was found is a JSON file, a table (`table`) and a plot (`plot`).

The same work: a uint8 batch that is in place, mapped to [0, 1], dropout, no augmentation,
mean cross-entropy, Adam at its defaults. fer_jax's step is the one that trains, metrics and
norms for the log included. Equal counts of parameters are checked.
"""
