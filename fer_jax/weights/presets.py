"""Face-recognition weights that users bring: network, input and origin of each published file.

Nothing is downloaded, and the projects publish no hashes. `fer-jax port-weights --preset` shows
the SHA-256 of the file that it ported, and stores it with the result.
"""

from __future__ import annotations

import dataclasses

from fer_jax.data.preprocess import InputFormat
from fer_jax.weights.layout import INCEPTION, TORCH, VGGFACE2

UNIT = InputFormat("rgb", 1 / 255, (0.0, 0.0, 0.0))
"""`ToTensor` alone: [0, 1]."""


@dataclasses.dataclass(frozen=True)
class Preset:
    """A published weight file.

    Attributes:
      model: name of the network.
      files: its published names.
      project: the public repository that names or links the file.
      size: side of the images that it was trained on, pixels.
      input_format: the pixel format that the project's code gives the network.
    """

    model: str
    files: str
    project: str
    size: int
    input_format: InputFormat


_VGGFACE2 = "cydonia999/VGGFace2-pytorch"

PRESETS = {
    # rafdb.py and networks/dan.py. What it was trained with is not published; FER code gives it
    # ImageNet's normalization.
    "msceleb_resnet18": Preset("resnet18", "resnet18_msceleb.pth", "yaoing/DAN", 224, TORCH),
    # src/IJBA/eval_ijba.py and src/end2end/selfDefine.py.
    "dream_resnet18": Preset(
        "resnet18", "ijba_res18_naive.pth.tar", "penincillin/DREAM", 224, UNIT
    ),
    # datasets/vgg_face2.py, models/ and utils.py.
    "vggface2_resnet50": Preset(
        "resnet50_caffe", "resnet50_ft_weight.pkl, resnet50_scratch_weight.pkl", _VGGFACE2, 224,
        VGGFACE2,
    ),
    "vggface2_senet50": Preset(
        "senet50", "senet50_ft_weight.pkl, senet50_scratch_weight.pkl", _VGGFACE2, 224, VGGFACE2
    ),
    # config.py, backbone/model_irse.py and util/extract_feature_v1.py.
    "ms1m_ir50": Preset(
        "ir50", "backbone_ir50_ms1m_epoch120.pth", "ZhaoJ9014/face.evoLVe", 112, INCEPTION
    ),
}  # fmt: skip
"""The `Preset` of each name."""
