"""Tables of text cells, aligned for a terminal or as Markdown."""

from collections.abc import Collection, Sequence


def text(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Collection[str] = (),
    markdown: bool = False,
    last_apart: bool = False,
) -> str:
    """Format rows of cells as an aligned table.

    Args:
        headings: of the columns.
        rows: of as many cells each.
        right: headings of the columns that are set to the right.
        markdown: draw the table as GitHub's Markdown.
        last_apart: draw a rule above the last row; Markdown has none.

    Raises:
        ValueError: a row with another number of cells.
    """
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    rule = ["-" * width for width in widths]
    if markdown:
        sides = zip(headings, rule, strict=True)
        rule = [line[:-1] + ":" if heading in right else line for heading, line in sides]
    lines = [headings, rule, *rows]
    if last_apart and not markdown:
        lines.insert(-1, ["-" * width for width in widths])
    left, between, end = ("| ", " | ", " |") if markdown else ("", "  ", "")

    def line(cells: Sequence[str]) -> str:
        placed = [
            cell.rjust(width) if heading in right else cell.ljust(width)
            for cell, width, heading in zip(cells, widths, headings, strict=True)
        ]
        return f"{left}{between.join(placed)}{end}".rstrip()

    return "\n".join(map(line, lines))
