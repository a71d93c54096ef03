"""Selectors: strategies that select the images to annotate; one file each."""

from presel_lightning.selectors.base import RankSelector, Selector
from presel_lightning.selectors.ccs import CCS
from presel_lightning.selectors.clip_score import ClipScore
from presel_lightning.selectors.coincide import Coincide
from presel_lightning.selectors.cvs import Cvs
from presel_lightning.selectors.d2pruning import D2Pruning
from presel_lightning.selectors.datainf import DataInf
from presel_lightning.selectors.datatailor import DataTailor
from presel_lightning.selectors.el2n import EL2N
from presel_lightning.selectors.for_value import ForValue
from presel_lightning.selectors.from_file import FromFile
from presel_lightning.selectors.icons import Icons
from presel_lightning.selectors.ifd import IFD
from presel_lightning.selectors.in_task import select_in_task
from presel_lightning.selectors.influence_space import InfluenceSpace
from presel_lightning.selectors.k_center import KCenter
from presel_lightning.selectors.k_means_plus_plus import KMeansPlusPlus
from presel_lightning.selectors.less import Less
from presel_lightning.selectors.medoids import Medoids
from presel_lightning.selectors.perplexity import Perplexity
from presel_lightning.selectors.presel import PreSel
from presel_lightning.selectors.prism import Prism
from presel_lightning.selectors.random import Random
from presel_lightning.selectors.scalselect import ScalSelect
from presel_lightning.selectors.selffilter import SelfFilter
from presel_lightning.selectors.semdedup import SemDeDup
from presel_lightning.selectors.size_balanced import SizeBalanced
from presel_lightning.selectors.tive import Tive
from presel_lightning.selectors.typiclust import TypiClust
from presel_lightning.selectors.visnec import VisNec
from presel_lightning.selectors.zcore import ZCore

__all__ = [
    "CCS",
    "EL2N",
    "IFD",
    "ClipScore",
    "Coincide",
    "Cvs",
    "D2Pruning",
    "DataInf",
    "DataTailor",
    "ForValue",
    "FromFile",
    "Icons",
    "InfluenceSpace",
    "KCenter",
    "KMeansPlusPlus",
    "Less",
    "Medoids",
    "Perplexity",
    "PreSel",
    "Prism",
    "Random",
    "RankSelector",
    "ScalSelect",
    "Selector",
    "SelfFilter",
    "SemDeDup",
    "SizeBalanced",
    "Tive",
    "TypiClust",
    "VisNec",
    "ZCore",
    "select_in_task",
]
