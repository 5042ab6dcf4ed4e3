"""Stand-ins: the files of data sets that cannot be redistributed, with rendered faces.

`write.py` writes one (`fer-jax stand-in`). `<name>.py` has the files of the set that
`tfds_builders/<name>` reads, and offers

    write(out, scale)    yields image counts while it writes the files
    count_images(scale)  the total of these counts
    pack(out)            optional: replaces the files by the archives as distributed
"""
