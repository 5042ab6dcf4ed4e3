"""CK+, the extended Cohn-Kanade set, as sequences or as the 48 x 48 copy CK+48."""
