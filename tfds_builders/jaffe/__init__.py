"""JAFFE, Japanese Female Facial Expression: ten women, 213 images."""
