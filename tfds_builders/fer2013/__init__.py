"""FER2013: 48 x 48 grey faces from the web, seven expressions, three official splits."""
