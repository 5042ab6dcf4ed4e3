"""RAF-DB, the Real-world Affective Faces Database, from the copy that the user was sent."""
