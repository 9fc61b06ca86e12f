"""What `parity_models` needs: random weights, random inputs, PyTorch runs."""

from collections.abc import Callable
import dataclasses

import numpy as np
import torch
import transformers

SEED = 0
PIXELS = 224
# Of the residual branches of a ResNet.
_BRANCH_SCALE = 0.2


@dataclasses.dataclass(frozen=True)
class Outcome:
  """What a comparison needs of a model.

  Attributes:
    parameters: how many our encoder has.
    shape: of the input, without the batch.
    theirs: PyTorch's last hidden state, in our order.
    rounding: max abs difference of it to PyTorch's in float64.
    ours: our last hidden state.
  """

  parameters: int
  shape: tuple[int, ...]
  theirs: np.ndarray
  rounding: float
  ours: np.ndarray


def perturb(model: torch.nn.Module) -> None:
  """Adds noise to all parameters, small enough to keep outputs near 1."""
  with torch.no_grad():
    for parameter in model.parameters():
      std = 0.1 if parameter.ndim <= 1 else 0.02
      parameter.add_(std * torch.randn(parameter.shape))


def randomise_batch_norms(model: torch.nn.Module) -> None:
  """Gives batch norms random scales, biases and statistics."""
  norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
  with torch.no_grad():
    for norm in norms:
      norm.weight.uniform_(0.5, 1.5)
      norm.bias.normal_(0, 0.2)
      norm.momentum = 1.0  # The statistics become those of the next batch.
    for block in model.modules():
      if hasattr(block, 'shortcut'):
        block.layer[-1].normalization.weight.mul_(_BRANCH_SCALE)
    model.train()(torch.randn(2, 3, PIXELS, PIXELS))
    for norm in norms:
      shift = torch.randn(norm.running_mean.shape)
      norm.running_mean.add_(0.2 * shift * norm.running_var.sqrt())
      norm.running_var.mul_(torch.empty_like(shift).uniform_(0.7, 1.4))
  model.eval()


def built(model: torch.nn.Module, path: str) -> torch.nn.Module:
  """Saves a model for `directory.read_weights`, and returns it."""
  model.eval().save_pretrained(path, safe_serialization=True)
  return model


def run_torch(
  model: torch.nn.Module, **inputs: torch.Tensor
) -> tuple[np.ndarray, float]:
  """Last hidden state and its rounding; leaves the model in float64."""
  double = {
    name: x.double() if x.is_floating_point() else x
    for name, x in inputs.items()
  }
  with torch.no_grad():
    found = model(**inputs).last_hidden_state
    exact = model.double()(**double).last_hidden_state
  return found.numpy(), (found - exact).abs().max().item()


class Embeds(torch.nn.Module):
  """A model whose last hidden state is what a function makes of inputs."""

  def __init__(
    self,
    model: torch.nn.Module,
    embed: Callable[..., torch.Tensor],
  ):
    super().__init__()
    self.model, self.embed = model, embed

  def forward(self, *args: torch.Tensor, **kwargs: torch.Tensor):
    """Calls the function with the inputs, such as clips [b t c h w]."""
    out = self.embed(self.model, *args, **kwargs)
    return transformers.modeling_outputs.BaseModelOutput(out)


def pixels(*shape: int) -> np.ndarray:
  """A random image [1 h w 3] or clip [1 t h w 3] of normalised pixels."""
  rng = np.random.default_rng(SEED)
  return rng.normal(size=(1, *shape, 3)).astype(np.float32)


def tokens(length: int, real: int, ids: range) -> tuple[np.ndarray, np.ndarray]:
  """Returns a random text [1 l] with padding behind it, and its mask."""
  drawn = np.random.default_rng(SEED).integers(ids.start, ids.stop, length)
  mask = np.arange(length) < real
  return np.where(mask, drawn, 0).astype(np.int32)[None], mask[None]


def torch_text(ids: np.ndarray, mask: np.ndarray) -> dict[str, torch.Tensor]:
  """Returns the inputs of a text model of transformers."""
  return {
    'input_ids': torch.from_numpy(ids).long(),
    'attention_mask': torch.from_numpy(mask).long(),
  }
