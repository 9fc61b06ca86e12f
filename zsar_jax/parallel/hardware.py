"""Published peaks of accelerators, to compare speeds with.

Sources: the Google Cloud documentation's pages on TPU v5e
(https://cloud.google.com/tpu/docs/v5e) and v6e
(https://docs.cloud.google.com/tpu/docs/v6e), read in November 2026: peak per
chip in bf16, HBM, interconnect of all links together. TPU v4 and v5p: the
same documentation, from memory. NVIDIA: the data sheets' dense tensor-core
peaks in half precision, without sparsity, from memory. A GB is 10^9 bytes.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Device:
  """One accelerator chip.

  Attributes:
    name: short.
    peak_flops: dense operations a second in bfloat16 (float16 where older).
    memory: bytes.
    memory_bandwidth: bytes a second.
    link_bandwidth: bytes a second that a chip sends to its neighbours, over all
      links; 0 if it depends on the machine.
    link_axes: torus dimensions of a slice; the links are split among them.
    host_chips: chips of one host of a slice.
    host_cpus: virtual CPU cores of that host (Google's machine types
      ct5lp-hightpu-4t, ct5p-hightpu-4t and ct6e-standard-4t).
  """

  name: str
  peak_flops: float
  memory: float
  memory_bandwidth: float
  link_bandwidth: float = 0.0
  link_axes: int = 0
  host_chips: int = 0
  host_cpus: int = 0


TPU = {
  'v4': Device('v4', 275e12, 32e9, 1228e9, 300e9, 3, 4, 240),
  'v5e': Device('v5e', 197e12, 16e9, 819e9, 200e9, 2, 4, 112),
  'v5p': Device('v5p', 459e12, 95e9, 2765e9, 600e9, 3, 4, 208),
  'v6e': Device('v6e', 918e12, 32e9, 1600e9, 400e9, 2, 4, 180),
}
# Part of `jax.Device.device_kind` -> device; the first match counts.
_KINDS = (
  ('TPU v6 lite', TPU['v6e']),
  ('TPU v6e', TPU['v6e']),
  ('TPU v5 lite', TPU['v5e']),
  ('TPU v5e', TPU['v5e']),
  ('TPU v5', TPU['v5p']),
  ('TPU v4', TPU['v4']),
  ('H200', Device('H200', 989e12, 141e9, 4.8e12)),
  ('H100 PCIe', Device('H100 PCIe', 756e12, 80e9, 2.0e12)),
  ('H100', Device('H100', 989e12, 80e9, 3.35e12)),
  ('A100', Device('A100', 312e12, 40e9, 1.555e12)),
  ('V100', Device('V100', 125e12, 16e9, 0.9e12)),
  ('L4', Device('L4', 121e12, 24e9, 0.3e12)),
  ('T4', Device('T4', 65e12, 16e9, 0.32e12)),
)


def find(device_kind: str) -> Device | None:
  """Finds the device with this JAX name; None if it is not listed."""
  for part, device in _KINDS:
    if part.lower() in device_kind.lower():
      return device
  return None
