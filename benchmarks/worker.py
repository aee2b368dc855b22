"""A program under measurement in a process of its own: it answers one question after the other and is idle in between.

A process to each program makes peak memory that program's own, and keeps thread pools apart.
"""

import contextlib
import importlib
import multiprocessing
import os
import subprocess
import sys
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from programs import peak

SETTINGS = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "TQDM_DISABLE": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
"""Environment of the programs: several may share an accelerator, and bars cost time."""


class Worker(contextlib.AbstractContextManager["Worker"]):
    """The end of the parent.

    Args:
      name: of the program, for people.
      module: in this folder, that holds its class `Program`, one of `programs.Program`.
      arguments: of that class.

    Raises:
      ValueError: the program refuses its arguments, or a package is missing.
      RuntimeError: it fails in another way, or ends.
    """

    def __init__(self, name: str, module: str, *arguments: Any):
        self.name, self.phases = name, dict[str, dict[str, Any]]()
        self._pipe, theirs = multiprocessing.Pipe()
        # The snnjax beside this folder is measured, even if another one is installed.
        paths = [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
        self._process = subprocess.Popen(
            [sys.executable, __file__, module, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdout=subprocess.DEVNULL,
            env={**SETTINGS, **os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        )
        theirs.close()
        try:
            self.about: dict[str, Any] = self.ask("start", *arguments)
        except BaseException:
            self.__exit__()
            raise

    def prepare(self, task: Any) -> None:
        """Has the phases prepared: `phases` then says of each images, compile_seconds and once."""
        self.ask("prepare", task)
        self.phases = self.ask("phases")

    def ask(self, question: str, *arguments: Any) -> Any:
        """Waits for the answer.

        Raises:
          ValueError, RuntimeError: as on starting.
        """
        try:
            self._pipe.send((question, arguments))
            error, answer = self._pipe.recv()
        except (EOFError, OSError) as broken:
            raise RuntimeError(f"{self.name} ended unexpectedly, with status {self._process.wait()}") from broken
        if error:
            raise error(f"{self.name}: {answer}")
        return answer

    def __exit__(self, *_: object) -> None:
        """Ends the process."""
        self._pipe.close()
        self._process.wait()


def serve(module: str, pipe: Connection) -> None:
    """Answers questions until the parent hangs up."""
    program: Any = None
    with contextlib.suppress(EOFError, KeyboardInterrupt):
        while True:
            question, arguments = pipe.recv()
            try:
                if question == "start":
                    program = importlib.import_module(module).Program(*arguments)
                    program.loaded = peak()
                    answer: tuple[Any, Any] = (None, program.about)
                else:
                    answer = (None, getattr(program, question)(*arguments))
            except (ValueError, ImportError, OSError) as error:
                answer = ValueError, str(error)
            except Exception as error:
                traceback.print_exc()
                answer = RuntimeError, f"{type(error).__name__}: {error}"
            pipe.send(answer)


if __name__ == "__main__":
    serve(sys.argv[1], Connection(int(sys.argv[2])))
