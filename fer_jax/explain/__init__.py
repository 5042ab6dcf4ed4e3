"""Why a network says what it says: maps of the places that spoke for a class."""
