"""JAFFE, the Japanese Female Facial Expression set: ten women, 213 pictures."""
