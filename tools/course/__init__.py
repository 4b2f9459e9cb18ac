"""A course on nbgrader: `book` makes it, `taking` takes notebooks back, `grading` and `worker` judge them."""
