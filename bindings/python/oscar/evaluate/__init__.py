"""How far a compressed cache moves a model from exact keys and values, through liboscar's own attention.

    from oscar import evaluate

    arms = {"2bit": evaluate.Library("2bit"), "calibrated": evaluate.Library("2bit", calibration)}
    evaluate.tensors(evaluate.Capture.load("qkv.safetensors"), arms)   # A: errors of attention; needs no model
    evaluate.predictions(model, texts, arms)                            # B: divergence of predictions
    evaluate.answers(model, prompts, arms)                              # C: where greedy answers turn
    evaluate.found_again(model, documents, arms)                        # D: copies, needles, pairs far back

``python -m oscar.evaluate FILE`` prints level A of a file of captured q, k and v. A model is anything with the
methods of :class:`Model`; an arm anything with those of :class:`Arm`: :class:`NumpyArm` makes one of another method's
quantizer or eviction, with the same exact tokens. Only numpy is needed (and safetensors, for such files).
"""

from .arm import Arm, Eviction, Library, LibraryArm, MakeArm, NumpyArm, Quantizer, Shape
from .capture import Capture, read_exactly
from .levels import answers, found_again, predictions, tensors
from .model import Attend, Model, Tokenizer
from .recall import Document, document
from .windows import WINDOWS, Windows

__all__ = [
    "WINDOWS",
    "Arm",
    "Attend",
    "Capture",
    "Document",
    "Eviction",
    "Library",
    "LibraryArm",
    "MakeArm",
    "Model",
    "NumpyArm",
    "Quantizer",
    "Shape",
    "Tokenizer",
    "Windows",
    "answers",
    "document",
    "found_again",
    "predictions",
    "read_exactly",
    "tensors",
]
