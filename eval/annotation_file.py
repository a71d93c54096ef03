"""The former place of `AnnotationFile`, which people's configs name."""

from presel_lightning.eval.benchmarks.annotation_file import AnnotationFile

__all__ = ["AnnotationFile"]
