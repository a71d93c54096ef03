"""Former import path of `AnnotationFile`, kept for existing configs."""

from presel_lightning.eval.benchmarks.annotation_file import AnnotationFile

__all__ = ["AnnotationFile"]
