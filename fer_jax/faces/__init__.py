"""Faces in images: decoding image files, detecting, cropping and aligning faces.

NumPy and OpenCV only; shared by the data set builders and prediction.
"""
