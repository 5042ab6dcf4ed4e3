"""Facial-expression classifiers in JAX: train, evaluate and serve them.

Verbs (one file each: main, train, evaluate) use the nouns in the rooms below;
nouns never use verbs. Importing this package starts no device, opens no port
and does not import TensorFlow.
"""

__version__ = "0.1.0"
