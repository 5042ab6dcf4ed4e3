"""SFEW 2.0, Static Facial Expressions in the Wild: aligned faces from movies."""
