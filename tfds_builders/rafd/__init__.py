"""RaFD, the Radboud Faces Database: 67 models, eight expressions, five cameras."""
