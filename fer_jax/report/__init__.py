"""Evaluation reports: scores, tables, plots and an HTML page from predictions.

| module | content |
|---|---|
| `predictions` | class probabilities of a split, stored as CSV |
| `scores`, `slices` | scores of a split, and of groups within it |
| `card` | what was evaluated, with warnings |
| `tables` | the text report |
| `plots`, `svg`, `png` | figures and their encodings |
| `examples`, `page` | example images, and the HTML page |
| `gallery` | the page of suspected labels |
| `write` | the report folder |

Needs NumPy, OpenCV, Matplotlib and Jinja, but not JAX.
"""
