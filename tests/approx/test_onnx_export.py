from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

import approx
from approx import ArgumentError, LabelledImages, LayerApproximation
from tests.approx.test_saving import Everything

pytestmark = pytest.mark.slow

EIGHT = LayerApproximation(weight_bits=8, activation_bits=8)


@pytest.fixture(scope="module")
def images() -> LabelledImages:
    from sklearn.datasets import load_digits

    digits = load_digits()
    return LabelledImages(torch.tensor(digits.images).to(torch.uint8)[:, None], torch.tensor(digits.target), 16)


@pytest.fixture(scope="module", params=["mlp", "lenet", "vgg", "resnet"])
def trained(request: pytest.FixtureRequest, images: LabelledImages) -> nn.Module:
    architecture = approx.Architecture(family=request.param, depth=1, width=2)
    network = approx.build_network(architecture, image_shape=(1, 8, 8), classes=10, seed=0)
    approx.fit(network, images, approx.Schedule(epochs=0.5, batch_size=64, learning_rate=5e-3), seed=0)
    return network


def run(proto: onnx.ModelProto, inputs: Tensor) -> Tensor:
    onnx.checker.check_model(proto)
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", "1")  # sums saturate on CPUs without VNNI otherwise
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (out,) = session.run(None, {"input": inputs.numpy()})
    return torch.from_numpy(np.asarray(out))


@pytest.mark.parametrize(("weight_bits", "activation_bits"), [(8, 8), (5, 4), (12, 7)])
def test_onnx_runtime_predicts_the_same(
    trained: nn.Module, images: LabelledImages, weight_bits: int, activation_bits: int
) -> None:
    config = replace(EIGHT, weight_bits=weight_bits, activation_bits=activation_bits)
    model = approx.approximate(trained, config, calibration_data=images.inputs(slice(0, 300)))
    proto = approx.to_onnx(model, example_input=images.inputs(slice(0, 2)))
    inputs = images.inputs(slice(0, len(images)))
    with torch.no_grad():
        expected = model(inputs)
    found = run(proto, inputs)
    assert torch.equal(found.argmax(1), expected.argmax(1))
    assert (found - expected).abs().max() < 0.1 * expected.abs().max()  # a sum that rounds otherwise moves one code
    assert run(proto, inputs[:1]).shape == (1, 10)


class ManyShapes(nn.Module):
    """Convolutions whose padding or output is not of the simplest kind."""

    def __init__(self) -> None:
        super().__init__()
        self.even = nn.Conv2d(1, 4, (4, 3), padding="same")
        self.dilated = nn.Conv2d(4, 4, 3, dilation=2, padding=2, groups=4, bias=False)
        self.round = nn.Conv2d(4, 4, 3, stride=2, padding=1, padding_mode="circular")
        self.up = nn.ConvTranspose2d(4, 6, 3, stride=(2, 3), padding=1, groups=2)
        self.cut = nn.ConvTranspose2d(6, 2, 2, padding=2, dilation=(2, 1), bias=False)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.dilated(torch.tanh(self.even(images))).relu()
        scores: Tensor = self.cut(self.up(self.round(hidden), output_size=(8, 11)))
        return scores


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
def test_every_shape_of_convolution_is_expressed() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network, inputs = ManyShapes().eval(), torch.randn(6, 1, 8, 8)
    model = approx.approximate(network, replace(EIGHT, granularity="tensor"), calibration_data=inputs)
    with torch.no_grad():
        expected = model(inputs)
    found = run(approx.to_onnx(model, example_input=inputs[:1]), inputs)
    assert found.shape == expected.shape
    assert (found - expected).abs().max() < 0.02 * expected.abs().max()


class Inexpressible(nn.Module):
    def __init__(self, forward: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.classify = nn.Linear(64, 10)
        self.after = forward

    def forward(self, images: Tensor) -> Tensor:
        return self.after(self.classify(images.flatten(1)))


@pytest.mark.parametrize(
    ("after", "reason"),
    [
        (
            lambda scores: scores.reshape(2, 10),
            "its code fixes the size of a batch to 2; take it from the input",
        ),
        (lambda scores: -scores if scores.sum() > 0 else scores, "Could not guard on data-dependent expression"),
        (lambda scores: torch.linalg.svd(scores)[0], "No ONNX function found"),
    ],
)
def test_what_onnx_cannot_express_is_refused_in_one_line(
    after: Callable[[Tensor], Tensor], reason: str, capfd: pytest.CaptureFixture[str]
) -> None:
    images = torch.rand(2, 1, 8, 8)
    model = approx.approximate(Inexpressible(after), EIGHT, calibration_data=images)
    with pytest.raises(ArgumentError, match=reason) as error:
        approx.to_onnx(model, example_input=images)
    assert "\n" not in str(error.value)
    assert capfd.readouterr() == ("", "")


def test_it_is_in_qdq_form(trained: nn.Module, images: LabelledImages) -> None:
    model = approx.approximate(trained, EIGHT, calibration_data=images.inputs(slice(0, 300)))
    proto = approx.to_onnx(model, example_input=images.inputs(slice(0, 2)))
    kinds = [node.op_type for node in proto.graph.node]
    layers = len(list(approx.approx_layers(model)))
    assert kinds.count("QuantizeLinear") == layers
    assert kinds.count("DequantizeLinear") == 2 * layers
    assert not any(node.metadata_props for node in proto.graph.node)  # which would say where this machine keeps torch
    codes = [one for one in proto.graph.initializer if one.data_type == onnx.TensorProto.INT8 and len(one.dims) > 1]
    assert len(codes) == layers


def test_every_kind_of_layer_is_expressed() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network, inputs = Everything().eval(), torch.randn(6, 1, 8, 8)
    model = approx.approximate(network, EIGHT, calibration_data=inputs)
    with torch.no_grad():
        expected = model(inputs)
    found = run(approx.to_onnx(model, example_input=inputs), inputs)
    assert (found - expected).abs().max() < 0.02 * expected.abs().max()


@pytest.mark.parametrize(("multiplier", "equal"), [("exact", True), ("asm-1", True), ("truncated-4", False)])
def test_the_metadata_says_whether_products_are_exact(
    multiplier: str, equal: bool, images: LabelledImages, tmp_path: Path
) -> None:
    network = approx.build_named_network(family="mlp", depth=1, width=1, image_shape=(1, 8, 8), classes=10)
    model = approx.approximate(
        network, replace(EIGHT, multiplier=multiplier), calibration_data=images.inputs(slice(0, 100))
    )
    proto = approx.to_onnx(model, example_input=images.inputs(slice(0, 2)))
    metadata = {one.key: one.value for one in proto.metadata_props}
    assert metadata["crosslayer.equals_model"] == str(equal).lower()
    assert approx.equal_in_onnx(model) == equal
    if equal:
        inputs = images.inputs(slice(0, 200))
        with torch.no_grad():
            assert torch.equal(run(proto, inputs).argmax(1), model(inputs).argmax(1))
