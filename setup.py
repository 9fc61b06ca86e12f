"""Installs zsar_jax.

Lower bounds are installed and tested together: `.ci/oldest.txt` pins them. An
upper bound stands only where a next major version is known to break us, and
says why.
"""

import pathlib
import re

import setuptools

_HERE = pathlib.Path(__file__).parent
_VERSION = re.search(
  r"__version__ = '(.+)'", (_HERE / 'zsar_jax/__init__.py').read_text()
).group(1)

setuptools.setup(
  name='zsar_jax',
  version=_VERSION,
  description='Zero-shot action recognition in JAX and Flax',
  long_description=(_HERE / 'README.md').read_text(),
  long_description_content_type='text/markdown',
  license='Apache-2.0',
  python_requires='>=3.11',
  classifiers=[
    'Programming Language :: Python :: 3.11',
    'Programming Language :: Python :: 3.12',
    'Programming Language :: Python :: 3.13',
    'Topic :: Scientific/Engineering :: Artificial Intelligence',
  ],
  entry_points={'console_scripts': ['zsar = zsar_jax.__main__:run']},
  packages=setuptools.find_packages(include=['zsar_jax', 'zsar_jax.*']),
  package_data={
    # A model small enough to come along: what the demo trains.
    'zsar_jax': ['shipped_models/*/*', 'shipped_models/*/examples/*'],
    'zsar_jax.data': ['vocabulary.txt', 'descriptions/*.json'],
    'zsar_jax.data.protocols': ['class_lists/*'],
    'zsar_jax.evaluation.report': ['page.html.jinja', 'page.css'],
    'zsar_jax.web': ['page.css', 'page.js'],
  },
  install_requires=[
    # Model, step, evaluator.
    'jax>=0.10.2',
    'flax>=0.12.6',
    'optax>=0.2.8',
    'orbax-checkpoint>=0.12.0',
    'tensorstore>=0.1.84',
    'numpy>=2.0',
    'ml_collections>=1.1.0',
    'clu>=0.0.12',
    'absl-py>=2.3',
    'safetensors>=0.5',
    'huggingface_hub>=0.26',
    # Statistics and the report.
    'scipy>=1.15',
    'scikit-learn>=1.5',
    'matplotlib>=3.10',
    'jinja2>=3.1',
    # TensorBoard files, and the vocabulary's learner. Nothing else needs
    # them, and they have no wheels for Python 3.14. They release in step and
    # must match.
    'tensorflow>=2.21,<2.22; python_version < "3.14"',
    'tensorflow-text>=2.21.1,<2.22; python_version < "3.14"',
    # Data.
    'tensorflow-datasets>=4.9.10',
    'tensorboard>=2.20',  # clu's writers need it; TensorFlow 2.21 does not
    'grain>=0.2.15',
    'array-record>=0.8.1',
    # Before 17 PyAV rounds colours otherwise than FFmpeg does. A major version
    # takes arguments and attributes away: 19 did.
    'av>=17.1,<20',
    # A major version of OpenCV moves whole modules: 5 did.
    'opencv-python-headless>=4.10.0.84,<6',
    'simplejpeg>=1.8',
    # Resizes as it did for the public weights.
    'pillow>=11',
    'tokenizers>=0.21',
    'rapidfuzz>=3.10',
    'tqdm>=4.66',
  ],
  extras_require={
    # imageio-ffmpeg is FFmpeg itself, whose frames ours are compared with.
    'test': [
      'pytest>=8',
      'pytest-timeout>=2.3.1',
      'pytest-xdist>=3.6.1',
      'ruff>=0.9',
      'imageio-ffmpeg>=0.6',
      # Drives Chromium to look at the report, where that is installed.
      'selenium>=4.20',
      # Holm's correction, to compare ours with.
      'statsmodels>=0.14.4',
      # Runs the notebooks.
      'nbclient>=0.10',
      'ipykernel>=6.29',
      # Reads the workflows.
      'pyyaml>=6.0.1',
    ],
    # Builds the documentation; with 'test' it also runs the notebooks.
    'docs': ['furo>=2025.7.19', 'myst-nb>=1.3', 'sphinx>=8.2'],
    # Puts small faults into the code, to see whether tests notice.
    'dev': ['cosmic-ray>=8.3'],
    # The page in the browser. Heavy, so tests of it are skipped without.
    'app': ['gradio>=6.31'],
    # The peers that loaded weights are compared with, on the CPU.
    'parity': ['torch>=2.9', 'transformers>=4.50'],
    # `bank export --format=onnx`, and what runs its files. Versions of jax2onnx
    # that ask for an orbax-checkpoint older than ours are passed over.
    'onnx': ['jax2onnx>=0.13', 'onnxruntime>=1.24'],
    # Runs mteb's tasks on a model. Brings torch.
    'mteb': ['mteb>=2.26'],
    # libtpu must move together with jax on a TPU VM or in Colab.
    'tpu': ['jax[tpu]>=0.10.2'],
    # In an environment of its own: it wants older protobuf and pillow.
    'beam': ['apache-beam>=2.60'],
    # The driver decides: `nvidia-smi` shows the newest CUDA that it knows.
    'cuda12': ['jax[cuda12]>=0.10.2'],
    'cuda13': ['jax[cuda13]>=0.10.2'],
    # The name of an earlier version.
    'cuda': ['jax[cuda12]>=0.10.2'],
  },
)
