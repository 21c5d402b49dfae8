"""One evaluation, from a candidate to its accuracy and energy."""
