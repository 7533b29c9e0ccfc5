"""
A complete toy annotation format; `import toy_format` registers it.

    # a comment
    train red: red/0.mp4 red/1.mp4
    validation blue: blue/0.mp4
"""

from pathlib import Path

from tubevit.training.data.formats.registry import AnnotationError, AnnotationFormat, ReadContext, register_format
from tubevit.training.data.formats.samples import VideoSample
from tubevit.training.data.text_tables import read_text, sniff_line


CLASSES = ("blue", "green", "red", "yellow")


def sniff_toy(path: Path) -> bool:
    return sniff_line(path) == "# toy"


def read_toy(path: Path, context: ReadContext) -> list[VideoSample]:
    samples = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if line.strip() and not line.startswith("#"):
            head, colon, names = line.partition(":")
            if not colon or len(head.split()) != 2:
                raise AnnotationError(f"{path}, line {number}: {line!r} is not 'split class: paths'.")
            split, label = head.split()
            samples += [VideoSample(context.videos.find(name), label, name, split) for name in names.split()]
    return samples


TOY_FORMAT = AnnotationFormat(
    name="toy",
    description="lines of a split, a class and paths",
    sniff=sniff_toy,
    read=read_toy,
    suffixes=(".toy",),
    class_counts=(len(CLASSES),),
    class_names=lambda annotations, names_file, num_classes: list(CLASSES),
)
register_format(TOY_FORMAT)
