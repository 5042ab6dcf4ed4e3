"""FER2013: gray 48 x 48 faces from the web, seven expressions, three official splits."""
