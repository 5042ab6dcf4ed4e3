"""Faces in images: decoding image files, detection, cropping, alignment.

NumPy and OpenCV only; used by the data set builders and by prediction alike.
"""
