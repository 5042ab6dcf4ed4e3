"""ExpW, Expression in-the-Wild: faces in photographs from the web, boxes shipped."""
