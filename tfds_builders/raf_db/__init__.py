"""RAF-DB, the Real-world Affective Faces Database, basic (single-label) part."""
