"""Stand-ins: the exact files of sets that nobody may redistribute, with rendered faces in them."""
