"""CK+, the extended Cohn-Kanade set, as sequences or as the 48-pixel copy of them."""
