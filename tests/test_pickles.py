"""Files of PyTorch's that are hostile, and those that are not."""

import io
import os
import pickle
import resource
import time
import zipfile

import pytest
import torch
from torch import nn

from codec_attack_parts import refused
from quadrate import QuadrateError
from quadrate.codecs import PublishedBottleneck
from quadrate.networks.backbones.weights import read_tensors
from quadrate.networks.published_weights import load_published_classifier

# --- files of PyTorch's ---


def saved(value, new=True) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=new)
    return buffer.getvalue()


class Asks:
    """Pickled as a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def archive(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", data)
        file.writestr("archive/data/0", bytes(4))
    return buffer.getvalue()


# A tensor of 10^9 numbers on a storage that says it has them, and that has one.
_CLAIM = (
    b"\x80\x02}X\x08\x00\x00\x00scaling\x00ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000"
    b"X\x03\x00\x00\x00cpuJ\x00\xca\x9a;tQK\x00J\x00\xca\x9a;\x85K\x01\x85\x89}tRs."
)


PICKLES = {
    "size of a buffer": saved({"0.weight": Asks(torch.Size, Asks(bytearray, 2 * 10**8))}),
    "size of a buffer, old": saved(
        {"0.weight": Asks(torch.Size, Asks(bytearray, 2 * 10**8))}, new=False
    ),
    "a buffer": saved([Asks(bytearray, 4 * 10**9)]),
    "expanded": saved(
        {
            "0.weight": torch.zeros(1).expand(10**9),
            "scaling": torch.zeros(1).expand(10**9),
            "biasing": torch.zeros(1).expand(10**9),
        }
    ),
    "claims": archive(_CLAIM),
    "memo": archive(b"\x80\x02]r\xff\xff\xff\xff."),
    "declared length": archive(b"\x80\x05\x96" + (10**10).to_bytes(8, "little") + b"x."),
    "a long pickle": archive(b"\x80\x02(" + b"}" * (1 << 22) + b"l."),
    "code": pickle.dumps(Asks(print, "executed")),
    "code, saved": saved({"0.weight": Asks(print, "executed")}),
}


@pytest.mark.parametrize("name", PICKLES)
@pytest.mark.parametrize(
    "load", [PublishedBottleneck.load, load_published_classifier, read_tensors]
)
def test_a_hostile_pickle_takes_no_more_than_its_file(tmp_path, capsys, name, load):
    path = tmp_path / "x.ckpt"
    path.write_bytes(PICKLES[name])
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    refused(load, path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB
    assert time.process_time() - start < 5 and "executed" not in capsys.readouterr().out


def test_an_expanded_state_dict_in_memory_is_refused():
    state = torch.load(
        os.path.join(os.path.dirname(__file__), "golden", "lossyless-bottleneck.pt"),
        weights_only=True,
    )
    state["biasing"] = torch.zeros(1).expand(10**9)
    with pytest.raises(QuadrateError, match="biasing claims a shape"):
        PublishedBottleneck(state)


@pytest.mark.parametrize("new", [True, False])
def test_tensors_of_every_kind_are_read_as_pytorch_reads_them(tmp_path, new):
    base = torch.arange(12.0)
    state = {
        "transposed": base.reshape(3, 4).T,
        "slice": base[3:7],
        "parameter": nn.Parameter(base),
        "half": base.half(),
        "none": torch.zeros(0, 3),
    }
    state |= {
        "scalar": torch.tensor(3),
        "bfloat16": base.bfloat16(),
        "bool": base > 5,
        "double": base.double(),
    }
    (tmp_path / "x.pth").write_bytes(
        saved(
            {
                "state_dict": state,
                "epoch": 3,
                "shape": torch.Size((2, 3)),
                "device": torch.device("cpu"),
            },
            new,
        )
    )
    tensors = read_tensors(tmp_path / "x.pth")
    assert list(tensors) == list(state)
    for name, tensor in state.items():
        assert tensors[name].dtype == tensor.dtype and torch.equal(tensors[name], tensor.detach())
