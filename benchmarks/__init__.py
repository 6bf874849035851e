"""What Stride is measured by, and against. Nothing here is part of the server."""
