"""RaFD, the Radboud Faces Database, from the copy that the user was sent."""
