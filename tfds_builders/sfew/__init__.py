"""SFEW 2.0, Static Facial Expressions in the Wild, from the copy that the user was sent."""
