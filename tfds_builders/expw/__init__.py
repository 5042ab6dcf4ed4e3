"""ExpW, Expression in-the-Wild: faces in photographs from the web, with face boxes."""
