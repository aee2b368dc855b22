"""Executes a notebook by IPython, without the sockets that Jupyter needs, which some machines refuse.

Prints, in JSON, for each code cell its source, what it printed, and how many figures it showed.
"""

import json
import sys

import nbformat
from IPython.terminal.interactiveshell import TerminalInteractiveShell
from IPython.utils.capture import capture_output


def main(path: str) -> None:
    shell = TerminalInteractiveShell.instance()
    shell.display_formatter.active_types = ["text/plain", "image/png"]
    cells = []
    with capture_output():
        shell.enable_matplotlib("inline")
    for cell in nbformat.read(path, 4).cells:
        if cell.cell_type == "code":
            with capture_output() as output:
                result = shell.run_cell(cell.source)
            if not result.success:
                raise SystemExit(f"{cell.source}\n{output.stdout}\n{output.stderr}")
            figures = sum("image/png" in each.data for each in output.outputs)
            cells.append(dict(source=cell.source, printed=output.stdout, figures=figures))
    print(json.dumps(cells))


if __name__ == "__main__":
    main(sys.argv[1])
